"""Durations of the last minute, for percentiles: what a histogram since the start no longer shows."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

WINDOW_S = 60.0
_MOST = 4096
"""Values kept: a minute at 68 Hz; of a faster stage less than a minute."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Half and 95 % of `count` values lie at or below these, in seconds."""

    count: int
    p50_s: float
    p95_s: float


class Recent:
    """Keeps durations for `window_s`. One thread observes, any may read."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._values: deque[tuple[float, float]] = deque(maxlen=_MOST)

    def observe(self, seconds: float, now_s: float) -> None:
        """Note a duration that ended at `now_s` of the monotonic clock."""
        self._values.append((now_s, seconds))

    def clear(self) -> None:
        """Forget all: what follows is of something else."""
        self._values.clear()

    def read(self, now_s: float, since_s: float = 0.0) -> Percentiles | None:
        """Return the percentiles of the window that ends at `now_s`, or of what came after `since_s`; None: nothing."""
        return percentiles(self.values(max(since_s, now_s - self._window_s)))

    def values(self, since_s: float) -> list[float]:
        """Return what came after `since_s`."""
        return [seconds for at_s, seconds in self._values.copy() if at_s > since_s]


def percentiles(values: list[float]) -> Percentiles | None:
    """Return the percentiles of `values` by nearest rank, None of nothing."""
    if not values:
        return None
    ordered, count = sorted(values), len(values)
    return Percentiles(count, ordered[(count - 1) // 2], ordered[-(-count * 95 // 100) - 1])
