"""Waits between attempts."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from agent.backoff import Backoff


class Most(random.Random):
    """Draws the most there is."""

    def uniform(self, a: float, b: float) -> float:
        """Return `b`."""
        return max(a, b)


def ceilings() -> Backoff:
    """Return a backoff that always waits up to its bound."""
    return Backoff(first_s=0.5, max_s=8.0, rng=Most())


def test_the_bound_doubles_up_to_the_most_until_reset() -> None:
    """0.5, 1, 2, 4, 8, 8: each wait may be twice the one before, up to the limit; reset begins anew."""
    backoff = ceilings()
    assert [backoff.next_s() for _ in range(6)] == [0.5, 1, 2, 4, 8, 8]
    backoff.reset()
    assert backoff.next_s() == 0.5


def test_at_least_comes_on_top_of_the_jitter() -> None:
    """A refused login waits its time and then a random while, so that a fleet does not come back as one."""
    assert ceilings().next_s(at_least_s=30.0) == 30.5


@given(seed=st.integers(), attempts=st.integers(1, 50))
def test_waits_are_full_jitter(seed: int, attempts: int) -> None:
    """Every wait lies between 0 and its bound."""
    backoff = Backoff(first_s=0.5, max_s=30.0, rng=random.Random(seed))
    for attempt in range(attempts):
        assert 0 <= backoff.next_s() <= min(0.5 * 2**attempt, 30.0)
