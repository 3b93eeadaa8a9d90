"""How much of the engine's own rate is left when real video goes through the whole frame path.

    python -m tests.bench.frame_path BUNDLE [--clip FILE] [--rounds 9] [--frames 250]

Each round runs, one after the other, so that a noisy machine disturbs all alike:
  bare      the engine alone, the same input again and again
  pipeline  `--pace fastest`: decode, scale, infer, decode boxes, track, decide events
  plain     one loop that does the same work, one thing after the other
  beside    the engine alone while another process decodes the same clip: what this machine gives the engine when its
            other cores work, the ceiling of any pipeline here
and prints the median of each rate and of its ratio to the bare runs before and after it.
Without --clip the sample clip is brought to 1080p H.264 at 25 frames/s and --mbit first (kept in out/bench/).
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from agent.assembly import build_pipeline, open_model
from agent.camera import Capture
from agent.capture import make_source, open_source
from agent.config import Detect, Sampling
from agent.daemon import GIL_SWITCH_S
from agent.mailbox import Mailbox
from agent.overlap import Overlap
from agent.priority import NICE_STAGES
from agent.sampling import make_sampler
from agent.starter import starter_bundle

if TYPE_CHECKING:
    from agent.backends import Engine
    from agent.bundle import Bundle
    from agent.pipeline import Pipeline

_DECODE = """
import sys, av
while True:
    with av.open(sys.argv[1]) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for number, _ in enumerate(container.decode(video=0)):
            if number == 10:
                print("decoding", flush=True)
"""
SAMPLE = Path(__file__).parents[1] / "data" / "sample" / "sample.mp4"


def main() -> int:
    """Run the rounds and print the table."""
    args = _arguments()
    bundle, engine = open_model(args.bundle, threads=args.threads)
    clip = args.clip or full_hd(SAMPLE, Path(f"out/bench/sample-1080p-{args.mbit:g}mbit.mp4"), args.mbit)
    sys.setswitchinterval(args.switch_ms / 1e3)
    print(f"{bundle.manifest.name} on {engine.info.backend}, {args.threads} thread(s), {clip.name}")
    runs = {
        "pipeline": lambda: pipeline_rate(bundle, engine, clip, args.frames),
        "plain": lambda: plain_rate(bundle, engine, clip, args.frames),
        "beside": lambda: beside_rate(engine, clip, args.frames),
    }
    rates: dict[str, list[float]] = {"bare": [bare_rate(engine, args.frames)], **{name: [] for name in runs}}
    ratios: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(args.rounds):
        for name, run in runs.items():
            rates[name].append(run())
            before = rates["bare"][-1]
            rates["bare"].append(bare_rate(engine, args.frames))
            ratios[name].append(2 * rates[name][-1] / (before + rates["bare"][-1]))
        print(
            f"  round {number + 1}: " + ", ".join(f"{n} {r[-1]:.3f}" for n, r in ratios.items()), flush=True
        )
    for name, values in rates.items():
        print(f"{name:9} {statistics.median(values):7.1f} frames/s{_share(ratios.get(name))}")
    ceiling = statistics.median(p / b for p, b in zip(ratios["pipeline"], ratios["beside"], strict=True))
    print(f"pipeline / beside, round by round: {ceiling:.3f}")
    return 0


def _share(ratio: list[float] | None) -> str:
    if ratio is None:
        return ""
    return f"  {statistics.median(ratio):.3f} of bare ({min(ratio):.3f} to {max(ratio):.3f})"


def bare_rate(engine: Engine, frames: int) -> float:
    """Inferences a second of the engine alone."""
    spec = engine.input
    tensor = np.zeros(spec.shape, spec.dtype)
    begin_s = time.perf_counter()
    for _ in range(frames):
        engine.infer(tensor)
    return frames / (time.perf_counter() - begin_s)


def beside_rate(engine: Engine, clip: Path, frames: int) -> float:
    """Inferences a second of the engine while another process decodes `clip` on one thread, again and again."""
    decoder = subprocess.Popen([sys.executable, "-c", _DECODE, str(clip)], stdout=subprocess.PIPE)
    try:
        assert decoder.stdout is not None
        decoder.stdout.readline()
        return bare_rate(engine, frames)
    finally:
        decoder.kill()
        decoder.communicate()


class _Timed:
    """Stages that count: the clock runs from the first prepared to the last finished frame."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.begin_s = self.end_s = 0.0
        self.frames = 0

    def prepare(self, frame):
        self.begin_s = self.begin_s or time.perf_counter()
        return self._pipeline.prepare(frame)

    def finish(self, frame, geometry, outputs):
        self._pipeline.finish(frame, geometry, outputs)
        self.frames += 1
        self.end_s = time.perf_counter()

    @property
    def rate_hz(self) -> float:
        return self.frames / (self.end_s - self.begin_s)


class _First:
    """The first frames of a clip as a source."""

    def __init__(self, count: int, clip: str) -> None:
        self._count, self._source = count, make_source(clip, camera="bench", pace="fastest")

    def open(self) -> None:
        self._source.open()

    def frames(self):
        frames = self._source.frames()
        yield from itertools.islice(frames, self._count)
        self._source.close()


def pipeline_rate(bundle: Bundle, engine: Engine, clip: Path, frames: int) -> float:
    """Frames a second of the product's own frame path."""
    bell = threading.Condition()
    mailbox = Mailbox(bell, blocking=True)
    stages = _Timed(build_pipeline(bundle, engine, Detect(), camera="bench"))
    capture = Capture(_First(frames, str(clip)), make_sampler(Sampling()), mailbox)
    overlap = Overlap([(mailbox, stages)], engine, bell, eager=True, nice=NICE_STAGES)
    threads = [threading.Thread(target=capture.run), threading.Thread(target=overlap.run)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return stages.rate_hz


def plain_rate(bundle: Bundle, engine: Engine, clip: Path, frames: int) -> float:
    """Frames a second of one loop that does one thing after the other."""
    source = open_source(str(clip), camera="bench", pace="fastest")
    stages = _Timed(build_pipeline(bundle, engine, Detect(), camera="bench"))
    for frame in source.frames():
        if frame.seq >= frames:
            break
        prepared = stages.prepare(frame)
        stages.finish(frame, prepared.geometry, engine.infer(prepared.tensor))
    source.close()
    return stages.rate_hz


def full_hd(clip: Path, out: Path, mbit_s: float) -> Path:
    """Return `clip` as 1920x1080 H.264 (CABAC, one slice, GOP 50, as cameras send it), twice over."""
    if out.exists():
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part.mp4")
    with av.open(str(part), "w") as writer:
        stream = writer.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        stream.codec_context.gop_size = 50
        stream.bit_rate = int(mbit_s * 1e6)
        stream.options = {"preset": "veryfast", "x264-params": "sliced-threads=0:bframes=0"}
        number = 0
        for _ in range(2):
            with av.open(str(clip)) as reader:
                for picture in reader.decode(video=0):
                    scaled = picture.reformat(1920, 1080)
                    scaled.pts, scaled.time_base = number, Fraction(1, 25)
                    writer.mux(stream.encode(scaled))
                    number += 1
        writer.mux(stream.encode(None))
    return part.rename(out)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, nargs="?", default=starter_bundle(), help="default: the starter")
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--mbit", type=float, default=2.0, help="bit rate of the clip made, Mbit/s")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--frames", type=int, default=250)
    switch_help = "how long a Python thread may keep the interpreter (Python's own: 5)"
    parser.add_argument("--switch-ms", type=float, default=GIL_SWITCH_S * 1e3, help=switch_help)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
