"""What waits for the disk: a note goes with its row, and a newer word on it wins."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from agent.outbox.ledger import Lane
from agent.outbox.outbox import Note, Outbox
from agent.outbox.pending import Load, Pending
from agent.outbox.stored import Stored, make_key
from tests.patience import HANGS_S

SLOW = {Lane.P0: 3600.0, Lane.P1: 3600.0, Lane.GAP: 3600.0}


def add(pending: Pending, lane: Lane, seq: int, note: tuple[str, bytes | None] | None = None) -> None:
    """Have a row wait."""
    pending.add(lane, Stored(make_key(lane, 1, seq), "t", retain=False, payload=b"x"), note)


def told(pending: Pending, limit: int) -> Load:
    """Return the next load; it arrives."""
    load = pending.leave(limit)
    pending.arrived(load)
    return load


def test_notes_do_not_leave_before_their_rows(tmp_path: Path) -> None:
    """After each commit of many, every event that has begun on disk has its end there or is remembered."""
    count = 1500
    with Outbox(tmp_path / "outbox.db", device="dev", gap_topic="gap", commit_s=SLOW) as outbox:
        commit, seen = outbox._file.journal.commit, []

        def commit_and_look(batch: object) -> None:
            commit(batch)  # type: ignore[arg-type]
            with sqlite3.connect(f"file:{tmp_path}/outbox.db?mode=ro", uri=True) as raw:
                rows = {p.decode() for (p,) in raw.execute("SELECT cast(payload AS BLOB) FROM message")}
                notes = {k for (k,) in raw.execute("SELECT key FROM note")}
            raw.close()
            begun = {row.removeprefix("new ") for row in rows if row.startswith("new ")}
            ended = {row.removeprefix("end ") for row in rows if row.startswith("end ")}
            seen.append(begun - ended == notes)

        outbox._file.journal.commit = commit_and_look  # type: ignore[method-assign]
        for kind, keep in (("new", True), ("end", False)):
            for number in range(count):
                text = f"{kind} {number}".encode()
                outbox.put(Lane.P0, "t", lambda _, text=text: text, note=Note(f"{number}", keep))  # type: ignore[misc]
        assert outbox.flush(HANGS_S)
        assert len(seen) > 1
        assert all(seen)


def test_an_older_note_that_leaves_later_changes_nothing() -> None:
    """An update behind a backlog does not bring back what the end let go."""
    pending = Pending(())
    add(pending, Lane.P0, 1, ("event", b"new"))
    for seq in (1, 2):
        add(pending, Lane.P1, seq, ("event", b"update"))
    add(pending, Lane.P1, 3, ("event", b"last"))
    assert told(pending, 1).notes == {"event": b"update"}
    add(pending, Lane.P0, 2, ("event", None))
    assert told(pending, 1).notes == {"event": None}
    assert told(pending, 1).notes == {}
    assert len(pending) == 0


@pytest.mark.parametrize("value", [b"own", None])
def test_a_note_of_its_own_and_those_of_rows_are_one_story(value: bytes | None) -> None:
    """The last word wins, also when the disk refuses in between."""
    pending = Pending(["key"])
    add(pending, Lane.P0, 1, ("key", b"1"))
    add(pending, Lane.P0, 2, ("key", b"2"))
    pending.note("key", value)
    pending.put_back(pending.leave(1))
    pending.note("other", b"x")
    assert told(pending, 1).notes == {"key": value, "other": b"x"}
    assert told(pending, 1).notes == {}
    add(pending, Lane.P0, 3, ("key", b"3"))
    assert told(pending, 1).notes == {"key": b"3"}


def test_a_smaller_load_after_one_that_failed_remembers_what_its_rows_begin() -> None:
    """The end was in the load that failed: until it is on disk the event is open, and a restart has to end it."""
    pending = Pending(())
    add(pending, Lane.P0, 1, ("event", b"new"))
    add(pending, Lane.P0, 2, ("event", None))
    pending.put_back(pending.leave(2))
    assert told(pending, 1).notes == {"event": b"new"}
    assert told(pending, 1).notes == {"event": None}


def test_what_is_given_up_is_remembered_as_if_it_had_begun_and_not_ended() -> None:
    """The next run then ends it: an end that was lost comes after all."""
    pending = Pending(())
    add(pending, Lane.P0, 1, ("event", b"new"))
    add(pending, Lane.P0, 2, ("event", None))
    assert pending.shed() == make_key(Lane.P0, 1, 1)
    assert pending.shed() == make_key(Lane.P0, 1, 2)
    assert pending.shed() is None
    assert told(pending, 9).notes == {"event": b"new"}
