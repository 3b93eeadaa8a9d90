"""The order of sending while commits go on, and past many rows that may not go."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agent.outbox.ledger import Lane
from agent.outbox.outbox import Outbox
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SLOW = {Lane.P0: 3600.0, Lane.P1: 3600.0, Lane.GAP: 3600.0}


def opened(folder: Path) -> Outbox:
    """Return an outbox in `folder` that commits when a test asks for it."""
    return Outbox(folder / "outbox.db", device="dev", gap_topic="gap", commit_s=SLOW)


def put(outbox: Outbox, lane: Lane, count: int, topic: str = "t") -> None:
    """Put messages whose payload is their id, and commit them."""
    for _ in range(count):
        outbox.put(lane, topic, lambda i: str(i).encode())
    assert outbox.flush(HANGS_S)


def test_a_gap_that_grew_between_reading_and_handing_out_is_handed_out_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not passed over for good, and the file is not taken for damaged."""
    with opened(tmp_path) as outbox:
        put(outbox, Lane.P0, 3)
        keys = [int(message.key) for message in outbox.take(3)]
        outbox.discard(keys[:1], reason="rejected")
        assert outbox.flush(HANGS_S)
        read, steps = outbox._file.journal.read, [1]

        def read_then_commit(*span: int) -> Any:
            rows = read(*span)
            if rows and steps:
                steps.pop()
                outbox.discard(keys[1:2], reason="rejected")
                assert outbox.flush(HANGS_S)
            return rows

        monkeypatch.setattr(outbox._file.journal, "read", read_then_commit)
        seen = outbox.take(9)
        outbox.confirm(keys[2:])
        assert outbox.flush(HANGS_S)
        seen += outbox.take(9)
        assert [json.loads(message.payload)["count"] for message in seen] == [2]
        outbox.take(9)
        assert outbox.flush(HANGS_S)
        assert outbox.state.repaired == 0


def test_many_rows_that_may_not_go_are_passed_over_a_while_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call ends soon and asks for the next, which goes on where it ended; what is behind them comes."""
    monkeypatch.setattr("agent.outbox.handout._LOOK_S", 0.0)
    woken: list[int] = []
    with opened(tmp_path) as outbox:
        put(outbox, Lane.P0, 2000, "denied")
        put(outbox, Lane.P0, 1, "free")
        outbox.on_commit(lambda: woken.append(1))
        calls, seen = 0, []
        while not seen and calls < 3000:
            calls += 1
            woken.clear()
            seen = outbox.take(4, except_topics={"denied"})
            assert seen or woken
        assert [message.topic for message in seen] == ["free"]
        assert 1 < calls < 600
        assert outbox.state.repaired == 0


def test_pages_are_large_where_rows_may_not_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message at a time does not mean one row at a time."""
    monkeypatch.setattr("agent.outbox.handout._LOOK_S", 60.0)
    with opened(tmp_path) as outbox:
        put(outbox, Lane.P0, 1500, "denied")
        put(outbox, Lane.P1, 1500, "denied")
        read, reads = outbox._file.journal.read, []

        def count(*span: int) -> Any:
            reads.append(span)
            return read(*span)

        monkeypatch.setattr(outbox._file.journal, "read", count)
        assert outbox.take(1, except_topics={"denied"}) == []
        assert len(reads) < 30
