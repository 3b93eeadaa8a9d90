"""`python -m tests.bench NAME ...`: run one of the benchmarks of this folder (speed: `edge-agent bench`)."""

from __future__ import annotations

import sys

from tests.bench import (
    accuracy,
    device_writes,
    drain,
    flood,
    idle_decode,
    latency,
    outbox_ram,
    soak,
    stop,
    swaps,
    swarm,
)

NAMES = {
    "accuracy": accuracy,
    "device_writes": device_writes,
    "drain": drain,
    "flood": flood,
    "latency": latency,
    "idle_decode": idle_decode,
    "outbox_ram": outbox_ram,
    "soak": soak,
    "stop": stop,
    "swaps": swaps,
    "swarm": swarm,
}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        sys.exit(f"usage: python -m tests.bench {'|'.join(NAMES)} ...")
    sys.exit(NAMES[sys.argv.pop(1)].main())
