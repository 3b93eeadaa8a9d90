"""Whether the agent's memory, descriptors and threads grow, over frames and over events.

    python -m tests.bench soak [--minutes 3] [--fps 300] [--hz 300] [--json FILE]

Two processes at the same time. Frames: the real `edge-agent run` with a live stream, the sample clip again and
again over HTTP (MPEG-TS), its pictures --fps a second and not 10, all decoded, as many inferred as there is time
for, and its events sent to a real mosquitto. Events: the storm of tests/faults without kills, --hz events a second
through reporter, outbox, publisher and mosquitto. Memory is what the process has for itself (RssAnon: no pages of
files), looked at once a second; a straight line is fitted over the second half. What counts is the growth over a
million frames or events, and whether the last quarter still grows: a short soak can't tell a slope per day.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from agent.starter import sample_clip
from tests.e2e.brokers import mosquitto, wait_for
from tests.faults.lab import child, storming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_EVERY_S = 1.0
_TICKS_HZ = 90_000  # of the stream's clock
_BEGIN_S = 180.0


@dataclass(frozen=True)
class Look:
    """A process at one moment; `done` frames or events so far."""

    at_s: float
    done: int
    memory_bytes: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Growth:
    """What the second half of a soak shows; `last_quarter_bytes` is how much its median is above the one before."""

    done: int
    memory_bytes: int
    bytes_per_million: float
    last_quarter_bytes: float
    descriptors: int
    threads: int


def look(pid: int, at_s: float, done: int) -> Look:
    """Return how the process `pid` stands."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Look(at_s, done, int(status["RssAnon"].split()[0]) * 1024, descriptors, int(status["Threads"]))


def growth(looks: list[Look]) -> Growth:
    """Return the growth over the second half of `looks`, by what was done; 4 looks or more."""
    half, quarter = looks[len(looks) // 2 :], len(looks) // 4
    third, last = looks[-2 * quarter : -quarter], looks[-quarter:]
    slope = np.polyfit([each.done for each in half], [each.memory_bytes for each in half], 1)[0]
    return Growth(
        done=looks[-1].done,
        memory_bytes=looks[-1].memory_bytes,
        bytes_per_million=float(slope) * 1e6,
        last_quarter_bytes=_median(last) - _median(third),
        descriptors=max(x.descriptors for x in last) - max(x.descriptors for x in third),
        threads=max(x.threads for x in last) - max(x.threads for x in third),
    )


def _median(looks: list[Look]) -> float:
    return float(np.median([each.memory_bytes for each in looks]))


class Camera:
    """A context manager: the sample clip as an endless live stream at `url`, `fps` pictures a second."""

    def __init__(self, fps: float) -> None:
        self.frames = 0
        self._fps = fps
        self._pictures = list(_pictures(sample_clip()))
        self._ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/live.ts"

    def __enter__(self) -> Camera:  # noqa: PYI034 - typing.Self is not in Python 3.10
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(camera) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "video/mp2t")
                self.end_headers()
                with contextlib.suppress(OSError, av.FFmpegError):  # the client has gone
                    camera._serve(self.wfile)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler

    def _serve(self, out: Any) -> None:
        """Write MPEG-TS until the client has gone; each round of the clip goes on where the last one ended."""
        with (
            av.open(str(sample_clip())) as clip,
            av.open(out, "w", format="mpegts", options={"flush_packets": "1"}) as writer,
        ):
            stream = writer.add_stream_from_template(clip.streams.video[0])
            begin_s, step = time.monotonic(), round(_TICKS_HZ / self._fps)
            for number in itertools.count():
                if self._ended.wait(max(0.0, begin_s + number / self._fps - time.monotonic())):
                    return
                data, is_keyframe = self._pictures[number % len(self._pictures)]
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, Fraction(1, _TICKS_HZ)
                packet.dts = packet.pts = number * step
                packet.is_keyframe = is_keyframe
                writer.mux(packet)
                self.frames = number


def _pictures(clip: Path) -> Iterator[tuple[bytes, bool]]:
    """Yield the coded pictures of `clip`, which has no B-frames, and which of them are key frames."""
    with av.open(str(clip)) as container:
        for packet in container.demux(video=0):
            if packet.size:
                yield bytes(packet), packet.is_keyframe


@dataclass(frozen=True)
class Soaked:
    """What grew over frames, and over events; `looks` are all readings."""

    frames: Growth
    events: Growth
    frames_looks: list[Look]
    events_looks: list[Look]


def soak(folder: Path, *, minutes: float, fps: float, hz: float) -> Soaked:
    """Run both processes for `minutes`. Raises RuntimeError when one ends before."""
    with mosquitto(folder) as broker, Camera(fps) as camera, (folder / "log").open("wb") as log:
        url = ["--broker", f"mqtt://127.0.0.1:{broker.port}", "--device", "soak", "--state", folder / "agent"]
        run = ["run", "--source", camera.url, *url, "--threads", 1]
        storm = ["--state", folder / "storm", "--port", broker.port, "--hz", hz]
        with (
            child("agent", *run, stdout=log, stderr=log) as agent,
            storming(*storm, log=folder / "storm.log") as events,
        ):
            wait_for(lambda: camera.frames > fps and events.said, _BEGIN_S, "frames and events to flow")
            looks = _watch(
                {
                    agent: lambda: camera.frames,
                    events.process: lambda: events.put,
                },
                seconds=minutes * 60,
            )
    return Soaked(growth(looks[0]), growth(looks[1]), *looks)


def _watch(processes: dict[Any, Callable[[], int]], *, seconds: float) -> list[list[Look]]:
    """Look at each process every second for so long."""
    looks: list[list[Look]] = [[] for _ in processes]
    begin_s = time.monotonic()
    for number in range(round(seconds / _EVERY_S)):
        time.sleep(max(0.0, begin_s + number * _EVERY_S - time.monotonic()))
        for each, (process, done) in zip(looks, processes.items(), strict=True):
            if process.poll() is not None:
                raise RuntimeError(f"{process.args[2]} ended with {process.returncode} after {number} s")
            each.append(look(process.pid, time.monotonic() - begin_s, done()))
    return looks


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--fps", type=float, default=300.0)
    parser.add_argument("--hz", type=float, default=300.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edge-agent-soak-") as folder:
        soaked = soak(Path(folder), minutes=args.minutes, fps=args.fps, hz=args.hz)
    print(
        f"{'over':8} {'done':>9} {'anon_MB':>7} {'KiB/1000':>9} {'last quarter_KiB':>17} {'fds':>4} {'threads':>8}"
    )
    for name, grown in (("frames", soaked.frames), ("events", soaked.events)):
        print(
            f"{name:8} {grown.done:9} {grown.memory_bytes / 1e6:7.1f} {grown.bytes_per_million / 1024e3:9.2f} "
            f"{grown.last_quarter_bytes / 1024:17.0f} {grown.descriptors:4} {grown.threads:8}"
        )
    if args.json:
        args.json.write_text(json.dumps(asdict(soaked), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
