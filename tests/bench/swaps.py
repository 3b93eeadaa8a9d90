"""What live swaps of the model cost the agent: memory, threads, descriptors, frames and events.

    python -m tests.bench swaps [--swaps 50] [--every 10] [--json FILE]

The real `edge-agent run` watches two live cameras, which play the sample clip again and again. Two bundles, both the
shipped network for people under another name, are installed by turns into its store and taken on over its control
socket; each is committed before the next one comes. The row of 0 swaps is read after both have been at work once.
`replaced` are frames that a newer one pushed out before the engine came to them, while a swap was asked for until it
was answered and at all other times; `open` those of which nothing was told yet, at most two a camera where none gets
lost. In the end every number of an event is in the sink, and each life has one beginning and one end.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agent.control import SOCKET, answered, ask
from agent.errors import ServiceAway
from agent.modelstore import FOLDER, ModelStore
from agent.modelstore.install import Options, install
from agent.status import Status, read
from tests.bench.soak import Camera
from tests.broken_models import make_bundle
from tests.e2e.brokers import wait_for
from tests.faults.lab import child
from tests.patience import HANGS_S

_FPS = 10.0
_CAMERAS = ("yard", "door")
_CONFIG = """\
device = "swaps"
state_dir = "{state}"
sink = "{sink}"

[models]
commit_frames = 4
commit_s = 0.5

[sampling]
mode = "uniform"
hz = {fps}
"""


@dataclass(frozen=True)
class Row:
    """The agent after so many swaps."""

    swaps: int
    rss_bytes: int
    anon_bytes: int
    threads: int
    descriptors: int
    frames: int
    replaced_at_swaps: int
    replaced_else: int
    open: int


@dataclass(frozen=True)
class Told:
    """What is in the sink: `lost` numbers that are not there, `broken` lives without one beginning and one end."""

    events: int
    lives: int
    lost: int
    broken: int


@dataclass
class Swapped:
    """What a run showed; `swap_ms`: from the question to the answer, `at_swaps_s` of `took_s` went by so."""

    rows: list[Row] = field(default_factory=list)
    swap_ms: list[float] = field(default_factory=list)
    took_s: float = 0.0
    told: Told = Told(0, 0, 0, 0)

    @property
    def at_swaps_s(self) -> float:
        """Time that went by while a swap was asked for."""
        return sum(self.swap_ms) / 1e3


class _Agent:
    """The agent at work with `state`, the store of its models, and who looks at it."""

    def __init__(self, process: Any, state: Path, bundles: list[Path]) -> None:
        self._process, self._state, self._bundles = process, state, bundles
        self._store, self._at_swaps = ModelStore(state / FOLDER), 0
        wait_for(self._sees, HANGS_S, "frames of all cameras")

    def swap(self, number: int) -> float:
        """Install the other bundle and have it taken on; return how long the agent took, in ms."""
        installed = install(self._store, str(self._bundles[number % len(self._bundles)]), Options())
        before, began_s = self._status(), time.monotonic()
        answered(ask(self._state, "model.adopt", patience_s=HANGS_S))
        took_s = time.monotonic() - began_s
        self._at_swaps += _replaced(self._status()) - _replaced(before)
        wait_for(lambda: self._committed(installed.sha), HANGS_S, "the model to be committed")
        return took_s * 1e3

    def forget(self) -> None:
        """Count from here."""
        self._at_swaps, self._replaced = 0, _replaced(self._status())

    def row(self, swaps: int) -> Row:
        """Return how it stands."""
        place, status = Path(f"/proc/{self._process.pid}"), self._status()
        lines = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
        return Row(
            swaps=swaps,
            rss_bytes=int(lines["VmRSS"].split()[0]) * 1024,
            anon_bytes=int(lines["RssAnon"].split()[0]) * 1024,
            threads=int(lines["Threads"]),
            descriptors=len(list((place / "fd").iterdir())),
            frames=sum(camera.frames for camera in status.cameras),
            replaced_at_swaps=self._at_swaps,
            replaced_else=_replaced(status) - self._replaced - self._at_swaps,
            open=sum(
                c.frames - c.inferred - c.not_sampled - c.replaced - c.suppressed for c in status.cameras
            ),
        )

    def stop(self) -> None:
        """End it in order, so that all it has decided is in the sink. Raises RuntimeError where it does not."""
        self._process.terminate()
        if code := self._process.wait(HANGS_S):
            raise RuntimeError(f"the agent ended with {code}")

    def _status(self) -> Status:
        return read(ask(self._state, "status", patience_s=HANGS_S))

    def _sees(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"the agent ended with {self._process.returncode}")
        try:
            cameras = self._status().cameras if (self._state / SOCKET).exists() else ()
        except ServiceAway:  # it has not begun to answer
            return False
        return len(cameras) == len(_CAMERAS) and all(camera.inferred for camera in cameras)

    def _committed(self, sha: str) -> bool:
        state = self._store.read()
        if state.current != sha:
            raise RuntimeError(f"the agent gave {sha[:12]} up: {state.why(sha)}")
        return not state.pending


def measure(folder: Path, *, swaps: int, every: int) -> Swapped:
    """Swap the model so often in `folder`, and look after each `every` swaps."""
    bundles = [make_bundle(folder / name, "street", name=name) for name in ("street", "square")]
    state, sink, found = folder / "state", folder / "events.jsonl", Swapped()
    with Camera(_FPS) as camera, (folder / "log").open("wb") as log:
        config = folder / "swaps.toml"
        cameras = [f'[[camera]]\nname = "{name}"\nsource = "{camera.url}"\n' for name in _CAMERAS]
        text = _CONFIG.format(state=state, sink=sink, fps=_FPS)
        config.write_text("\n".join([text, *cameras]), encoding="utf-8")
        with child("agent", "run", "--config", config, stderr=log) as process:
            agent = _Agent(process, state, bundles)
            for number in range(len(bundles)):
                agent.swap(number)
            agent.forget()
            found.rows.append(agent.row(0))
            began_s = time.monotonic()
            for number in range(1, swaps + 1):
                found.swap_ms.append(agent.swap(number - 1))
                if number % every == 0 or number == swaps:
                    found.rows.append(agent.row(number))
            found.took_s = time.monotonic() - began_s
            agent.stop()
    found.told = told(sink)
    return found


def told(sink: Path) -> Told:
    """Return what the events in `sink` say of themselves."""
    numbers: dict[str, list[int]] = defaultdict(list)
    lives: dict[str, list[str]] = defaultdict(list)
    for line in sink.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        lane, _, number = event["id"].rpartition("/")
        numbers[lane].append(int(number))
        lives[event["event_id"]].append(event["type"])
    whole = Counter({"new": 1, "end": 1})
    return Told(
        events=sum(map(len, numbers.values())),
        lives=len(lives),
        lost=sum(max(seen) - len(set(seen)) for seen in numbers.values()),
        broken=sum(Counter(kind for kind in life if kind != "update") != whole for life in lives.values()),
    )


def _replaced(status: Status) -> int:
    return sum(camera.replaced for camera in status.cameras)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edge-agent-swaps-") as folder:
        found = measure(Path(folder), swaps=args.swaps, every=args.every)
    print("swaps   rss_MB  anon_MB  threads  fds   frames  replaced: at swaps  else   open")
    for row in found.rows:
        print(
            f"{row.swaps:5} {row.rss_bytes / 1e6:8.1f} {row.anon_bytes / 1e6:8.1f} {row.threads:8} "
            f"{row.descriptors:4} {row.frames:8} {row.replaced_at_swaps:19} {row.replaced_else:5} {row.open:6}"
        )
    p50_ms, p95_ms = np.percentile(found.swap_ms, (50, 95))
    print(
        f"a swap took {p50_ms:.0f} ms, p95 {p95_ms:.0f} ms; {found.at_swaps_s:.0f} of {found.took_s:.0f} s at swaps"
    )
    all_ = found.told
    print(f"{all_.events} events of {all_.lives} lives: {all_.lost} lost, {all_.broken} lives broken")
    if args.json:
        args.json.write_text(json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8")
    return 1 if all_.lost or all_.broken else 0


if __name__ == "__main__":
    sys.exit(main())
