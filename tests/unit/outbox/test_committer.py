"""The thread that commits: at the end, in trouble, and while others wait for it."""

from __future__ import annotations

import errno
import logging
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.outbox import replacing
from agent.outbox.audit import LaneAudit, audit
from agent.outbox.ledger import Lane
from agent.outbox.outbox import Outbox
from tests.e2e.brokers import wait_for
from tests.patience import HANGS_S

SLOW = {Lane.P0: 3600.0, Lane.P1: 3600.0, Lane.GAP: 3600.0}


def opened(folder: Path, **more: Any) -> Outbox:
    """Return an outbox in `folder` that commits when a test asks for it."""
    return Outbox(folder / "outbox.db", device="dev", gap_topic="gap", **{"commit_s": SLOW} | more)


def put(outbox: Outbox, count: int) -> None:
    """Put messages whose payload is their id."""
    for _ in range(count):
        outbox.put(Lane.P0, "t", lambda i: str(i).encode())


def fail_commits(outbox: Outbox, monkeypatch: pytest.MonkeyPatch, *faults: Exception) -> None:
    """Have the next commits raise these."""
    commit, left = outbox._file.journal.commit, list(faults)

    def commit_or_fail(batch: Any) -> None:
        if left:
            raise left.pop(0)
        commit(batch)

    monkeypatch.setattr(outbox._file.journal, "commit", commit_or_fail)


@pytest.mark.parametrize("broken", ["", "disk I/O error", "malformed"])
def test_the_end_commits_all_that_was_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """More than one commit takes, after a disk that refused, with a file to repair first."""
    outbox = opened(tmp_path)
    put(outbox, 3000)
    if broken:
        kind = sqlite3.OperationalError if broken == "disk I/O error" else sqlite3.DatabaseError
        fail_commits(outbox, monkeypatch, kind(broken))
    outbox.close()
    with opened(tmp_path) as outbox:
        assert len(outbox.take(9999)) == 3000


def test_the_end_is_not_put_off_by_a_disk_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two tries, then what is lost is told."""
    outbox = opened(tmp_path)
    put(outbox, 10)
    tries = []

    def fail(batch: object) -> None:
        tries.append(batch)
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(outbox._file.journal, "commit", fail)
    outbox.close()
    assert len(tries) == 2
    assert "10 are lost" in caplog.text


@pytest.mark.parametrize("how", ["confirm", "discard"])
def test_a_repair_that_fails_leaves_the_books_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What was confirmed while no new file could be made counts once, comes no more, and one epoch is begun."""
    monkeypatch.setattr("agent.outbox.committer._REPAIR_EVERY_S", 0.05)
    replace, tries = replacing.replace, []

    def full(*arguments: Any, **more: Any) -> Path | None:
        tries.append(arguments)
        if len(tries) < 4:
            raise OSError(errno.EACCES, "Permission denied")
        return replace(*arguments, **more)

    with opened(tmp_path) as outbox:
        put(outbox, 200)
        assert outbox.flush(HANGS_S)
        epoch = outbox.epoch
        keys = {int(message.key) for message in outbox.take(50)}
        monkeypatch.setattr(replacing, "replace", full)
        with outbox._changed:
            outbox._committer.damaged(sqlite3.DatabaseError("malformed"))
            if how == "confirm":
                outbox.confirm(keys)
            else:
                outbox.discard(keys, reason="rejected")
        wait_for(lambda: outbox.state.repaired, HANGS_S, "the repair")
        assert outbox.flush(HANGS_S)
        assert len(tries) == 4
        assert outbox.previous is not None
        assert outbox.previous.epoch == epoch
        again = [message for message in outbox.take(999) if message.topic != "gap"]
        assert len(again) == 150
        assert keys.isdisjoint(int(message.key) for message in again)
        books = audit(tmp_path / "outbox.db")
        assert books.holds
        assert (books.totals[1].confirmed, books.totals[1].evicted) == (
            (50, 0) if how == "confirm" else (0, 50)
        )
        assert outbox.counts()[Lane.P0].corrupt == 0


def test_repairs_that_fail_are_tried_ever_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them may write as much as the file holds."""
    with opened(tmp_path) as outbox:
        waits = [outbox._committer._repair_in_s() for _ in range(6)]
    assert waits == [10.0, 20.0, 40.0, 80.0, 160.0, 160.0]


def test_what_comes_while_the_new_file_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Put, confirmed, rolled: nothing counts twice and nothing is lost."""
    replace = replacing.replace
    with opened(tmp_path) as outbox:
        put(outbox, 100)
        assert outbox.flush(HANGS_S)
        keys = [int(message.key) for message in outbox.take(30)]
        roller = threading.Thread(target=outbox.roll)

        def meanwhile(*arguments: Any, **more: Any) -> Path | None:
            put(outbox, 5)
            outbox.confirm(keys[:10])
            outbox.discard(keys[10:12], reason="rejected")
            roller.start()
            return replace(*arguments, **more)

        with sqlite3.connect(tmp_path / "outbox.db") as raw:
            raw.execute("DELETE FROM message WHERE key IN (SELECT max(key) FROM message)")
        raw.close()
        monkeypatch.setattr(replacing, "replace", meanwhile)
        outbox._committer.damaged(sqlite3.DatabaseError("malformed"))
        wait_for(lambda: outbox.state.repaired, HANGS_S, "the repair")
        roller.join(HANGS_S)
        assert outbox.flush(HANGS_S)
        outbox.release_all()
        assert len([m for m in outbox.take(999) if m.topic != "gap"]) in {92, 93}
        counts = outbox.counts()[Lane.P0]
        assert (counts.allocated, counts.confirmed, counts.evicted) == (105, 10, 2)
        assert audit(tmp_path / "outbox.db").holds


def test_less_than_none_does_not_hold() -> None:
    """Books that add up only with a negative number are wrong."""
    lane = LaneAudit("P0", allocated=5, confirmed=-5, queued=10, evicted=0, rejected=0, corrupt=0)
    assert not lane.holds


def test_a_log_that_blocks_holds_up_no_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the line about a disk that refuses waits for its reader, messages are taken."""
    told, go_on = threading.Event(), threading.Event()

    class Blocking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.set()
            go_on.wait(2 * HANGS_S)

    logger, handler = logging.getLogger("agent.outbox.committer"), Blocking()
    with opened(tmp_path) as outbox:
        fail_commits(outbox, monkeypatch, sqlite3.OperationalError("disk I/O error"))
        logger.addHandler(handler)
        try:
            put(outbox, 1)
            assert not outbox.flush(0.0)
            assert told.wait(HANGS_S)
            putting = threading.Thread(target=put, args=(outbox, 1))
            putting.start()
            putting.join(HANGS_S)
            assert not putting.is_alive()
        finally:
            go_on.set()
            logger.removeHandler(handler)


def test_a_commit_that_hangs_holds_up_no_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the disk takes for one, messages are taken; all are kept in the end."""
    begun, go_on = threading.Event(), threading.Event()
    with opened(tmp_path) as outbox:
        commit = outbox._file.journal.commit

        def hang(*args: Any) -> Any:
            begun.set()
            go_on.wait(2 * HANGS_S)
            return commit(*args)

        monkeypatch.setattr(outbox._file.journal, "commit", hang)
        try:
            put(outbox, 1)
            assert not outbox.flush(0.0)
            assert begun.wait(HANGS_S)
            putting = threading.Thread(target=put, args=(outbox, 100), daemon=True)
            putting.start()
            putting.join(HANGS_S)
            assert not putting.is_alive()
        finally:
            go_on.set()
        assert outbox.flush(HANGS_S)
        assert len(outbox.take(999)) == 101


def test_notes_over_the_bound_keep_no_thread_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be given up there is no next round at once."""
    with opened(tmp_path, max_bytes=50_000) as outbox:
        outbox._file.journal._writer.execute("PRAGMA max_page_count = 100000")
        rounds, many = [], threading.Event()
        used = outbox._file.journal.used_bytes

        def count() -> int:
            rounds.append(1)
            if len(rounds) > 20:
                many.set()
            return used()

        monkeypatch.setattr(outbox._file.journal, "used_bytes", count)
        outbox.note("big", bytes(200_000))
        assert outbox.flush(HANGS_S)
        assert not many.wait(0.3)
