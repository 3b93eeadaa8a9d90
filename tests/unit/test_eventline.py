"""An event as one line."""

from __future__ import annotations

import msgspec

from agent.eventline import event_line
from agent.wire import EventMessage
from tests.unit.test_collector import EVENT


def line(**more: object) -> str:
    """Return the line of an event, without its time, which depends on the time zone."""
    event = {**EVENT, "id": "d/e/P0/1", "event_id": "e-yard-12", **more}
    return event_line(msgspec.convert(event, EventMessage)).plain[12:]


def test_a_line_tells_what_where_and_how_fresh() -> None:
    """Type, label, score, track and the frame's age always; zones, life span or rest where there are any."""
    assert line() == "new    person 0.50  #12  frame was 1 ms old"
    assert line(type="update", zones=["door"], stationary=True).startswith(
        "update person 0.50  #12  in door  stationary  frame"
    )
    end = line(type="end", end_time="2026-01-01T00:00:12.300Z", stationary=True)
    assert end == "end    person 0.50  #12  was here 12.3 s  frame was 1 ms old"
