"""A set of numbers as disjoint ranges: small as long as the numbers are mostly consecutive."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Ranges:
    """Integers, kept as ranges [first, last] in ascending order that neither overlap nor touch."""

    def __init__(self) -> None:
        self._first: list[int] = []
        self._last: list[int] = []

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._first, number) - 1
        return at >= 0 and number <= self._last[at]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._first, self._last, strict=True)))

    def __len__(self) -> int:
        """Return how many numbers there are."""
        return sum(last - first + 1 for first, last in self)

    def add(self, first: int, last: int) -> None:
        """Add all numbers from `first` to `last`, both included."""
        low = bisect_left(self._last, first - 1)
        high = bisect_right(self._first, last + 1)
        if low < high:
            first, last = min(first, self._first[low]), max(last, self._last[high - 1])
        self._first[low:high] = [first]
        self._last[low:high] = [last]

    def holes(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges from `first` to `last` that are not in the set."""
        at = bisect_left(self._last, first)
        while first <= last:
            start = self._first[at] if at < len(self._first) else last + 1
            if start > first:
                yield first, min(start - 1, last)
            if at >= len(self._first):
                return
            first, at = self._last[at] + 1, at + 1
