"""Waits between attempts."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from agent.capture.backoff import Backoff


def ceilings(first_s: float = 0.5, max_s: float = 8.0) -> Backoff:
    """Return a backoff that always draws the most."""
    return Backoff(first_s=first_s, max_s=max_s, stable_s=10.0, uniform=lambda _, high: high)


def test_the_ceiling_doubles_up_to_the_most() -> None:
    """0.5, 1, 2, 4, 8, 8: each wait may be twice the one before, up to the limit."""
    backoff = ceilings()
    assert [backoff.next_s() for _ in range(6)] == [0.5, 1, 2, 4, 8, 8]


def test_a_connection_that_is_lost_at_once_does_not_reset() -> None:
    """Only a connection of `stable_s` brings the short waits back: accept-and-drop must not be hammered."""
    backoff = ceilings()
    for _ in range(3):
        backoff.next_s()
    backoff.lasted(9.9)
    assert backoff.next_s() == 4
    backoff.lasted(10.0)
    assert backoff.next_s() == 0.5


def test_at_least_comes_on_top_of_the_jitter() -> None:
    """A refused login waits its time and then a random while, so that a fleet does not come back as one."""
    assert ceilings().next_s(at_least_s=30.0) == 30.5


@given(seed=st.integers(), attempts=st.integers(1, 50))
def test_waits_are_full_jitter(seed: int, attempts: int) -> None:
    """Every wait lies between 0 and its ceiling."""
    backoff = Backoff(first_s=0.5, max_s=30.0, stable_s=10.0, uniform=random.Random(seed).uniform)
    for attempt in range(attempts):
        assert 0 <= backoff.next_s() <= min(0.5 * 2**attempt, 30.0)
