"""Heartbeats: a process that stood still blames no call for it, and a call that hangs is found all the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.heartbeat import PAUSE_S, ROUND_S, Heartbeat, Pauses


def test_a_pause_is_not_counted() -> None:
    """Of the gap one round counts; a call begun after it is as old as it is."""
    pauses = Pauses()
    for now_s in (10.0, 11.0, 33.0, 34.0):
        pauses.round(now_s)
    assert pauses.without(Heartbeat("engine", "infer", 9.0)).since_s == 9.0 + 22.0 - ROUND_S
    assert pauses.without(Heartbeat("engine", "infer", 20.0)).since_s == 33.0
    assert pauses.without(Heartbeat("engine", "infer", 33.5)).since_s == 33.5


def test_a_late_round_is_no_pause() -> None:
    """A busy device: every second counts."""
    pauses = Pauses()
    for count in range(100):
        pauses.round(count * PAUSE_S)
    beat = Heartbeat("engine", "infer", 1.0)
    assert pauses.without(beat) is beat


@given(st.lists(st.floats(0.1, 1000.0), min_size=1, max_size=200), st.floats(0.0, 5.0))
def test_rounds_always_count(gaps_s: list[float], since_s: float) -> None:
    """However the rounds come, a call is never younger than the rounds it has lasted, nor older than it is."""
    pauses, now_s = Pauses(), since_s
    pauses.round(now_s)
    for gap_s in gaps_s:
        now_s += gap_s
        pauses.round(now_s)
    age_s = now_s - pauses.without(Heartbeat("engine", "infer", since_s)).since_s
    least_s = sum(min(gap_s, ROUND_S) for gap_s in gaps_s)
    assert least_s - 1e-6 <= age_s <= now_s - since_s + 1e-6
