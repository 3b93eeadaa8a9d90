"""Ranges against a plain set."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.ranges import Ranges

RANGE = st.tuples(st.integers(1, 60), st.integers(0, 8)).map(lambda each: (each[0], each[0] + each[1]))


@given(added=st.lists(RANGE, max_size=30), window=RANGE)
def test_ranges_are_a_set_of_numbers(added: list[tuple[int, int]], window: tuple[int, int]) -> None:
    """Members, size and holes are those of a set; ranges are ascending, and neither overlap nor touch."""
    ranges, model = Ranges(), set()
    for first, last in added:
        ranges.add(first, last)
        model.update(range(first, last + 1))
    assert len(ranges) == len(model)
    assert {n for n in range(80) if n in ranges} == model
    kept = list(ranges)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(kept))
    missing = {n for first, last in ranges.holes(*window) for n in range(first, last + 1)}
    assert missing == set(range(window[0], window[1] + 1)) - model
