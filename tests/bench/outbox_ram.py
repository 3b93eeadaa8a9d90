"""What a long queue costs in memory: `python -m tests.bench outbox_ram`.

    python -m tests.bench outbox_ram [--messages 1000000] [--folder DIR] [--json FILE]

A process opens an outbox, fills it (one in ten P0) as fast as it commits, takes and confirms some, and tells its
resident memory (VmRSS) after each step; another one opens the full file again.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import tempfile
import time
from pathlib import Path

from agent.outbox.ledger import Lane
from agent.outbox.outbox import Outbox

_EVENT_BYTES = 900
_BLOCK = 2000
_MAX_BYTES = 4 << 30


def rss_mib() -> float:
    """Return the resident memory of this process."""
    gc.collect()
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def _opened(folder: Path) -> Outbox:
    return Outbox(folder / "outbox.db", device="dev", gap_topic="gap", max_bytes=_MAX_BYTES)


def _use(outbox: Outbox) -> None:
    """Send some as a publisher would."""
    for _ in range(200):
        outbox.confirm([int(message.key) for message in outbox.take(64)])
    outbox.flush(60)


def fill(folder: Path, messages: int) -> dict[str, float]:
    """Return the memory in MiB of an outbox when empty, when full and when it sends."""
    outbox = _opened(folder)
    figures = {"empty": rss_mib()}
    for first in range(0, messages, _BLOCK):
        for number in range(first, min(first + _BLOCK, messages)):
            lane = Lane.P1 if number % 10 else Lane.P0
            outbox.put(lane, "edge/dev/events/yard", lambda i: str(i).encode().ljust(_EVENT_BYTES))
        outbox.flush(60)
    figures["full"] = rss_mib()
    _use(outbox)
    figures["sending"] = rss_mib()
    queued = sum(count.queued for count in outbox.counts().values())
    outbox.close()
    return figures | {"queued": queued}


def reopen(folder: Path, _: int) -> dict[str, float]:
    """Return the memory in MiB and the time it takes when the full file is opened again."""
    before, began_s = rss_mib(), time.monotonic()
    outbox = _opened(folder)
    figures = {"imported": before, "open_s": time.monotonic() - began_s, "opened": rss_mib()}
    _use(outbox)
    figures["sending"] = rss_mib()
    outbox.close()
    return figures


def measure(folder: Path, messages: int) -> dict[str, dict[str, float]]:
    """Return what both processes tell."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return {part.__name__: pool.apply(part, (folder, messages)) for part in (fill, reopen)}


def main() -> None:
    """Print the memory in MiB."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        figures = measure(Path(folder), args.messages)
        size_mib = sum(path.stat().st_size for path in Path(folder).iterdir()) / (1 << 20)
    filled, again = figures["fill"], figures["reopen"]
    print(f"{args.messages} messages, {size_mib:.0f} MiB on disk; resident memory in MiB:")
    print(f"empty {filled['empty']:.1f}, full {filled['full']:.1f}, sending {filled['sending']:.1f}")
    print(f"opened again in {again['open_s']:.2f} s: {again['opened']:.1f}, sending {again['sending']:.1f}")
    print(f"over an empty outbox: {max(filled['full'], filled['sending']) - filled['empty']:.1f}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
