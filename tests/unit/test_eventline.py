"""An event as one line."""

from __future__ import annotations

import msgspec

from agent.eventline import event_line
from agent.wire import EventMessage
from tests.unit.test_collector import EVENT

END = "2026-01-01T00:00:12.300Z"


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
    end = line(type="end", end_time=END, stationary=True)
    assert end == "end    person 0.50  #12  was here 12.3 s  frame was 1 ms old"


def test_an_end_that_is_no_leaving_says_why() -> None:
    """A lost camera or a restart does not look as if the object had left."""
    ends = {
        reason: line(type="end", end_time=END, reason=reason) for reason in ("lost", "restart", "camera_lost")
    }
    assert "lost" not in ends["lost"]
    assert "was here 12.3 s (restart)  frame" in ends["restart"]
    assert "was here 12.3 s (camera_lost)  frame" in ends["camera_lost"]
