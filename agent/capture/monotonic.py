"""How another clock stands to CLOCK_MONOTONIC."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CLOSE_NS = 100_000
"""Two clocks read within this are read together: it takes some 10 us, unless the thread is interrupted."""
TRIES = 8


def ahead_ns(clock_ns: Callable[[], int], monotonic_ns: Callable[[], int] = time.monotonic_ns) -> int:
    """Return by how much a clock is ahead of CLOCK_MONOTONIC, by the quickest of some readings of both."""
    quickest_ns, ahead = math.inf, 0
    for _ in range(TRIES):
        before_ns, seen_ns, after_ns = monotonic_ns(), clock_ns(), monotonic_ns()
        if after_ns - before_ns < quickest_ns:
            quickest_ns, ahead = after_ns - before_ns, seen_ns - (before_ns + after_ns) // 2
        if quickest_ns <= CLOSE_NS:
            break
    return ahead
