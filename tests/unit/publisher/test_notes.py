"""Messages that are not kept: in order, few at once, dropped and counted where they fail."""

from __future__ import annotations

import pytest

from agent.publisher.notes import AT_ONCE, MOST, Notes
from agent.transport import Outcome, Report


def test_few_are_under_way_and_the_oldest_gives_way() -> None:
    """All other room is for events; what waits is bounded."""
    notes = Notes()
    for n in range(MOST + 3):
        notes.put("t", b"%d" % n, b"key")
    assert notes.dropped == 3
    first = notes.take(100)
    assert [m.payload for m in first] == [b"%d" % n for n in range(3, 3 + AT_ONCE)]
    assert {m.correlation for m in first} == {b"key"}
    assert notes.take(100) == []
    assert notes.settle(Report(first[0].key, Outcome.DELIVERED))
    assert len(notes.take(100)) == 1
    assert notes.take(0) == []


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.DELIVERED])
def test_what_fails_is_dropped(outcome: Outcome, caplog: pytest.LogCaptureFixture) -> None:
    """Never tried again: who asked asks again. A refusal is told once."""
    notes = Notes()
    for _ in range(2):
        notes.put("t", b"x", None)
        assert notes.settle(Report(notes.take(1)[0].key, outcome, "a reason"))
    assert notes.dropped == 2
    assert notes.take(1) == []
    assert len(caplog.records) == (outcome in {Outcome.DENIED, Outcome.REJECTED, Outcome.REFUSED})


def test_reports_of_others_are_left_alone() -> None:
    """Rows and retained messages are not notes; a note that is not under way any more is passed over."""
    notes = Notes()
    assert not notes.settle(Report(7, Outcome.DELIVERED))
    assert not notes.settle(Report("edge/d/state", Outcome.DELIVERED))
    notes.put("t", b"x", None)
    key = notes.take(1)[0].key
    notes.forget_under_way()
    assert notes.settle(Report(key, Outcome.LOST))
    assert notes.dropped == 1
