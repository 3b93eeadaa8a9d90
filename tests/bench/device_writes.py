"""What the outbox writes to the disk or card in a day of events: `python -m tests.bench device_writes`.

    python -m tests.bench device_writes [--minutes 5] [--folder DIR] [--json FILE]

Each mode is a process with the real outbox and a publisher that confirms at once: 5 events/s at random times,
of which one in ten begins or ends an event (P0), with the note that remembers it. Counted is write_bytes of
/proc/<pid>/io (pages the process made dirty, 4 KiB each), over the whole time, scaled to a day. "no broker"
confirms nothing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.outbox.ledger import Lane
from agent.outbox.outbox import COMMIT_S, SD_SAVER_S, Note, Outbox

_EVENT_BYTES = 930
"""The size of an event of the demo on the wire."""
_HZ, _POLL_S = 5.0, 0.02
_DAY_S, _GIB = 86400, 1 << 30


@dataclass(frozen=True)
class Mode:
    """`p0_share` of the events begin or end one; `broker` says whether they are confirmed."""

    name: str
    saver: bool = False
    p0_share: float = 0.1
    broker: bool = True


MODES = (
    Mode("default"),
    Mode("sd_saver", saver=True),
    Mode("all P0", p0_share=1.0),
    Mode("no broker", broker=False),
)


@dataclass(frozen=True)
class Written:
    """What one mode wrote."""

    mode: str
    events: int
    seconds: float
    write_bytes: int

    @property
    def gib_a_day(self) -> float:
        """Scaled to a day."""
        return self.write_bytes / self.seconds * _DAY_S / _GIB


def write_bytes() -> int:
    """Return what this process has written to disks."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def run(mode: Mode, folder: Path, seconds: float) -> Written:
    """Put events for `seconds`, at random times that are the same in every run."""
    rng = random.Random(7)
    outbox = Outbox(
        folder / "outbox.db", device="dev", gap_topic="gap", commit_s=SD_SAVER_S if mode.saver else COMMIT_S
    )
    outbox.flush(10)
    before, began_s, events = write_bytes(), time.monotonic(), 0
    next_s = began_s
    while (now_s := time.monotonic()) - began_s < seconds:
        if now_s >= next_s:
            next_s += rng.expovariate(_HZ)
            _put(outbox, rng, mode.p0_share)
            events += 1
        if mode.broker:
            outbox.confirm([int(message.key) for message in outbox.take(64)])
        time.sleep(_POLL_S)
    outbox.close()
    return Written(mode.name, events, time.monotonic() - began_s, write_bytes() - before)


def _put(outbox: Outbox, rng: random.Random, p0_share: float) -> None:
    """Put an event of one of five objects: its update, or now and then its begin or end."""
    key = f"event/{rng.randrange(5)}"
    lane = Lane.P0 if rng.random() < p0_share else Lane.P1
    note = Note(key, keep=rng.random() < 0.5) if lane is Lane.P0 else None
    outbox.put(lane, "edge/dev/events/yard", lambda i: str(i).encode().ljust(_EVENT_BYTES, b"x"), note=note)


def measure(modes: tuple[Mode, ...], folder: Path, seconds: float) -> list[Written]:
    """Run all `modes` at once, each in a process of its own."""
    folders = [folder / mode.name.replace(" ", "_") for mode in modes]
    for place in folders:
        place.mkdir()
    with multiprocessing.get_context("spawn").Pool(len(modes), maxtasksperchild=1) as pool:
        jobs = [(mode, place, seconds) for mode, place in zip(modes, folders, strict=True)]
        return pool.starmap(run, jobs, chunksize=1)


def main() -> None:
    """Print GiB a day for each mode."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--folder", type=Path, help="on the disk to write to; default: the temporary one")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        results = measure(MODES, Path(folder), args.minutes * 60)
    for result in results:
        print(
            f"{result.mode:10} {result.events:5} events in {result.seconds:4.0f} s, "
            f"{result.write_bytes / max(result.events, 1):6.0f} bytes each: {result.gib_a_day:5.2f} GiB a day"
        )
    if args.json:
        document = [asdict(result) | {"gib_a_day": result.gib_a_day} for result in results]
        args.json.write_text(json.dumps(document, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
