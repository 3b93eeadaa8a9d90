"""A histogram of durations that costs less than a microsecond a value: one list of counts, no lock."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate

BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""From a stage of a small model to a frame that waited for a camera's network."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram as it was: `counts[i]` values up to `bounds_s[i]` and above the bound before.

    The last of `counts` has no bound.
    """

    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    sum_s: float

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    @property
    def cumulative(self) -> list[int]:
        """How many values were at most each bound; all of them last."""
        return list(accumulate(self.counts))


class Histogram:
    """Counts durations. One thread observes, any may read: it then sees the counts of one moment, or nearly."""

    __slots__ = ("_bounds_s", "_counts", "_sum_s")

    def __init__(self, bounds_s: tuple[float, ...] = BOUNDS_S) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self._sum_s += seconds

    def read(self) -> Distribution:
        """Return what was counted so far; from any thread."""
        return Distribution(self._bounds_s, tuple(self._counts), self._sum_s)
