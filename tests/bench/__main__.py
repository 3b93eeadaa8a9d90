"""`python -m tests.bench NAME ...`: run one of the benchmarks of this folder; without a name, the frame path."""

from __future__ import annotations

import sys

from tests.bench import accuracy, frame_path, latency

NAMES = {"frame_path": frame_path, "accuracy": accuracy, "latency": latency}

if __name__ == "__main__":
    name = sys.argv.pop(1) if len(sys.argv) > 1 and sys.argv[1] in NAMES else "frame_path"
    sys.exit(NAMES[name].main())
