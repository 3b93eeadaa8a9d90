"""How many may go now."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.pace import Pace


@given(steps=st.lists(st.floats(0, 0.5), min_size=1, max_size=200))
def test_no_more_than_the_rate_and_one_burst(steps: list[float]) -> None:
    """Whoever takes all there is room for gets the burst, and then the rate."""
    pace, now_s, taken = Pace(100.0, burst=10), 0.0, 0
    for step_s in steps:
        now_s += step_s
        room = pace.room(now_s)
        assert 0 <= room <= 10
        pace.take(room)
        taken += room
    assert taken <= 10 + 100 * now_s


def test_the_wait_is_until_there_is_room() -> None:
    """After the wait that is told there is room for what was asked."""
    pace = Pace(50.0, burst=10)
    pace.take(pace.room(0.0))
    wait_s = pace.wait_s(5)
    assert 0.09 < wait_s < 0.11
    assert pace.room(wait_s + 1e-9) == 5
    assert pace.wait_s(5) == 0
