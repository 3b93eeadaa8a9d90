"""The outbox: order, accounts, epochs, notes, bounds, gaps."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.errors import CannotCreate, TryAgain
from agent.outbox.audit import audit
from agent.outbox.ledger import Lane
from agent.outbox.outbox import Note, Outbox
from agent.outbox.stored import make_key, split_key
from tests.e2e.brokers import wait_for
from tests.patience import HANGS_S

SLOW = {Lane.P0: 3600.0, Lane.P1: 3600.0, Lane.GAP: 3600.0}
"""Commits happen when a test asks for them."""


def opened(folder: Path, **more: Any) -> Outbox:
    """Return an outbox in `folder`."""
    return Outbox(folder / "outbox.db", device="dev", gap_topic="gap", **more)


def put(outbox: Outbox, lane: Lane, count: int = 1, topic: str = "t", size: int = 0) -> list[str]:
    """Put messages whose payload is their id, and return the ids."""
    return [str(outbox.put(lane, topic, lambda i: str(i).encode().ljust(size))) for _ in range(count)]


def take(outbox: Outbox, limit: int = 1000, **more: Any) -> tuple[list[int], list[str]]:
    """Take, and return keys and payloads."""
    taken = outbox.take(limit, **more)
    return [int(m.key) for m in taken], [m.payload.decode().strip() for m in taken]


def balanced(outbox: Outbox) -> bool:
    """Return whether allocated = confirmed + queued + evicted + corrupt in every lane."""
    return all(
        c.allocated == c.confirmed + c.queued + c.evicted + c.corrupt and c.queued >= 0
        for c in outbox.counts().values()
    )


def test_keys_keep_lane_epoch_and_seq() -> None:
    """A key holds its three numbers, and orders by them."""
    assert split_key(make_key(2, 70000, 123456789)) == (2, 70000, 123456789)
    assert make_key(1, 9, 9) < make_key(2, 1, 1) < make_key(2, 1, 2) < make_key(2, 2, 1) < 2**63


def test_only_committed_rows_are_handed_out_by_lane_and_seq(tmp_path: Path) -> None:
    """Nothing before the commit; then P0 before P1 before P2, ascending, each once."""
    with opened(tmp_path, commit_s=SLOW) as outbox:
        early, late = put(outbox, Lane.P0, 2), put(outbox, Lane.P1, 2)
        stats = put(outbox, Lane.P2)
        assert take(outbox)[1] == stats
        assert outbox.flush(HANGS_S)
        assert take(outbox, 3)[1] == early + late[:1]
        assert take(outbox)[1] == late[1:]
        assert take(outbox)[1] == []


def test_an_event_is_not_updated_after_its_end(tmp_path: Path) -> None:
    """A few updates put before an end go before it, and those put later after it; also when resent."""
    with opened(tmp_path) as outbox:
        new, update, end = put(outbox, Lane.P0), put(outbox, Lane.P1, 2), put(outbox, Lane.P0)
        later = put(outbox, Lane.P1)
        outbox.flush(HANGS_S)
        assert take(outbox, 2)[1] == [*new, update[0]]
        assert take(outbox)[1] == [update[1], *end, *later]
        outbox.release_all()
        assert take(outbox)[1] == [*new, *update, *end, *later]


def test_a_backlog_of_updates_does_not_hold_up_an_end(tmp_path: Path) -> None:
    """With many updates waiting the end goes first, and the updates keep their order."""
    with opened(tmp_path) as outbox:
        updates, end = put(outbox, Lane.P1, 100), put(outbox, Lane.P0)
        outbox.flush(HANGS_S)
        assert take(outbox, 200)[1] == [*end, *updates]


def test_rows_are_committed_in_time_without_a_flush(tmp_path: Path) -> None:
    """A P0 row wakes the publisher within its commit time."""
    woken = threading.Event()
    with opened(tmp_path, commit_s={Lane.P0: 0.05}) as outbox:
        outbox.on_commit(woken.set)
        woken.clear()
        put(outbox, Lane.P0)
        assert woken.wait(HANGS_S)
        assert len(outbox.take(9)) == 1


def test_ids_are_numbered_by_lane_and_a_failed_encoding_uses_none(tmp_path: Path) -> None:
    """Each lane counts from 1; an encoder that raises leaves no hole."""
    with opened(tmp_path) as outbox:
        with pytest.raises(ZeroDivisionError):
            outbox.put(Lane.P0, "t", lambda _: bytes(1 // 0))
        assert put(outbox, Lane.P0) + put(outbox, Lane.P1) == [
            f"dev/{outbox.epoch}/P0/1",
            f"dev/{outbox.epoch}/P1/1",
        ]


def test_a_new_start_has_a_new_epoch_and_sends_its_events_first(tmp_path: Path) -> None:
    """Its P0 come first, then what is older, confirmed ones never; `previous` names the last numbers."""
    with opened(tmp_path) as outbox:
        put(outbox, Lane.P0, 3)
        put(outbox, Lane.P1, 1)
        outbox.flush(HANGS_S)
        keys, rows = take(outbox)
        outbox.confirm(keys[1:3])
        epoch = outbox.epoch
    with opened(tmp_path) as outbox:
        assert outbox.epoch != epoch
        assert outbox.previous is not None
        assert (outbox.previous.epoch, outbox.previous.last_seq) == (epoch, {"P0": 3, "P1": 1})
        new = put(outbox, Lane.P0)
        outbox.flush(HANGS_S)
        keys, seen = take(outbox)
        assert seen == [*new, rows[0], rows[3]]
        outbox.confirm(keys)
        assert outbox.idle()
    with opened(tmp_path) as outbox:
        assert outbox.idle()
        assert outbox.previous is not None
        assert outbox.previous.last_seq == {"P0": 1}


def test_topics_can_be_left_out_and_come_back(tmp_path: Path) -> None:
    """Rows of an excepted topic stay, and come in order when it is excepted no more."""
    with opened(tmp_path) as outbox:
        held, free = put(outbox, Lane.P0, 2, "held"), put(outbox, Lane.P0, 2, "free")
        outbox.flush(HANGS_S)
        assert take(outbox, except_topics={"held"})[1] == free
        assert take(outbox, except_topics={"held"})[1] == []
        assert take(outbox)[1] == held


def test_over_the_byte_cap_updates_go_before_ends_and_a_gap_tells(tmp_path: Path) -> None:
    """The oldest P1 rows are given up first, P0 stays, gaps account for all and survive a restart."""
    with opened(tmp_path, max_bytes=400_000) as outbox:
        ends = put(outbox, Lane.P0, 50, size=1000)
        for _ in range(8):
            put(outbox, Lane.P1, 100, size=1000)
            assert outbox.flush(HANGS_S)
        outbox.flush(HANGS_S)
        counts = outbox.counts()
        assert counts[Lane.P0].evicted == 0
        assert counts[Lane.P1].evicted > 300
        assert balanced(outbox)
    evicted, epoch = outbox.counts()[Lane.P1].evicted, outbox.epoch
    with opened(tmp_path, max_bytes=400_000) as outbox:
        _, rows = take(outbox, 2000)
        gaps = [json.loads(row) for row in rows if row.startswith("{")]
        assert sum(gap["count"] for gap in gaps) == evicted
        assert {(g["epoch"], g["lane"], g["reason"]) for g in gaps} == {(epoch, "P1", "disk_full")}
        assert len(gaps) == 1
        assert (gaps[0]["from_seq"], gaps[0]["to_seq"]) == (1, evicted)
        assert [row for row in rows if row in ends] == ends
    assert (tmp_path / "outbox.db").stat().st_size < 600_000


def test_a_gap_that_was_handed_out_grows_no_more(tmp_path: Path) -> None:
    """Losses after that are told by another message."""
    with opened(tmp_path) as outbox:
        put(outbox, Lane.P0, 4)
        outbox.flush(HANGS_S)
        keys, _ = take(outbox)
        outbox.discard(keys[:1], reason="rejected")
        outbox.discard(keys[1:2], reason="rejected")
        outbox.flush(HANGS_S)
        _, rows = take(outbox)
        outbox.discard(keys[2:3], reason="rejected")
        outbox.flush(HANGS_S)
        rows += take(outbox)[1]
    assert [(json.loads(r)["from_seq"], json.loads(r)["count"]) for r in rows] == [(1, 2), (3, 1)]


def test_statistics_stay_in_memory_and_are_bounded(tmp_path: Path) -> None:
    """Of P2 the newest stay; what went is counted."""
    with opened(tmp_path, max_ram=10) as outbox:
        sent = put(outbox, Lane.P2, 25)
        assert take(outbox)[1] == sent[15:]
        assert outbox.counts()[Lane.P2].evicted == 15
        assert balanced(outbox)


def test_a_damaged_row_is_counted_and_reported(tmp_path: Path) -> None:
    """A changed payload is found by its CRC: never sent, a gap instead; the others arrive."""
    with opened(tmp_path) as outbox:
        sent = put(outbox, Lane.P0, 3)
    with sqlite3.connect(tmp_path / "outbox.db") as raw:
        raw.execute(
            "UPDATE message SET payload = 'x' || substr(payload, 2) WHERE key = ?", [make_key(1, 1, 2)]
        )
    raw.close()
    with opened(tmp_path) as outbox:
        rows = take(outbox)[1]
        wait_for(lambda: outbox.state.repaired, HANGS_S, "the repair")
        assert outbox.flush(HANGS_S)
        *gaps, last = take(outbox)[1]
        assert [*rows, last] == [sent[0], sent[2]]
        (gap,) = map(json.loads, gaps)
        assert (gap["from_seq"], gap["to_seq"], gap["count"], gap["reason"]) == (2, 2, 1, "corrupt")


@pytest.mark.parametrize("content", [b"not a database" * 999, b"SQLite format 3\0" + b"\xff" * 5000, b""])
def test_a_damaged_file_is_set_aside(tmp_path: Path, content: bytes) -> None:
    """What is no outbox is kept under another name and a new one begun."""
    (tmp_path / "outbox.db").write_bytes(content)
    with opened(tmp_path) as outbox:
        put(outbox, Lane.P0)
        assert outbox.flush(HANGS_S)
    damaged = [path for path in tmp_path.glob("*.damaged-*") if path.suffix.startswith(".damaged")]
    assert [path.read_bytes() for path in damaged] == [content]


def test_a_second_agent_is_refused(tmp_path: Path) -> None:
    """The file belongs to one process at a time; the line says to which, and how to have two agents."""
    import os

    with opened(tmp_path), pytest.raises(TryAgain, match=f"process {os.getpid()}") as caught:
        opened(tmp_path)
    assert "another --state and --device" in str(caught.value)
    opened(tmp_path).close()


@pytest.mark.parametrize("where", ["file/outbox.db", "/proc/none/outbox.db"])
def test_a_place_that_can_not_hold_it(tmp_path: Path, where: str) -> None:
    """A parent that is a file, a file system that takes no files: exit code 73."""
    (tmp_path / "file").touch()
    with pytest.raises(CannotCreate, match="can't keep the outbox") as caught:
        Outbox(tmp_path / where, device="dev", gap_topic="gap")
    assert caught.value.exit_code == 73


def test_a_disk_that_refuses_is_waited_for_within_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While commits fail rows wait in memory, over the bound P1 goes first; one error is logged."""
    monkeypatch.setattr("agent.outbox.committer._RETRY_S", 0.02)
    with opened(tmp_path, max_waiting=10) as outbox:
        commit = outbox._file.journal.commit
        fault = sqlite3.OperationalError("database or disk is full")
        monkeypatch.setattr(outbox._file.journal, "commit", lambda *_: (_ for _ in ()).throw(fault))
        updates = put(outbox, Lane.P1, 6)
        ends = put(outbox, Lane.P0, 8)
        assert not outbox.flush(0.3)
        monkeypatch.setattr(outbox._file.journal, "commit", commit)
        assert outbox.flush(HANGS_S)
        _, rows = take(outbox)
        assert sorted(rows[1:]) == sorted(ends + updates[4:])
        assert json.loads(rows[0])["reason"] == "disk_refuses"
        assert balanced(outbox)
    assert caplog.text.count("the disk refuses") == 1


@pytest.mark.parametrize("broken", ["commit", "nothing but sizes", "used_bytes"])
def test_faults_while_room_is_made_do_not_end_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    """Over the cap with a file that can't be read: told once, and all goes on when the disk is well again."""
    monkeypatch.setattr("agent.outbox.committer._RETRY_S", 0.01)
    failed = threading.Semaphore(0)

    def fail(*_: object) -> None:
        failed.release()
        raise sqlite3.OperationalError("disk I/O error")

    with opened(tmp_path, max_bytes=100_000) as outbox:
        outbox._committer._max_bytes = 1 << 30
        put(outbox, Lane.P1, 60, size=3000)
        assert outbox.flush(HANGS_S)
        outbox._committer._max_bytes = 100_000
        with monkeypatch.context() as patch:
            for name in {"commit": ["commit", "sizes"], "used_bytes": ["used_bytes"]}.get(broken, ["sizes"]):
                patch.setattr(outbox._file.journal, name, fail)
            put(outbox, Lane.P0)
            for _ in range(4):
                assert failed.acquire(timeout=HANGS_S), "the thread has ended"
        assert outbox._committer._thread.is_alive()
        put(outbox, Lane.P0)
        assert outbox.flush(HANGS_S)
        wait_for(
            lambda: outbox.counts()[Lane.P1].evicted and outbox.flush(HANGS_S),
            HANGS_S,
            "room to be made",
        )
        assert balanced(outbox)
        assert len([row for row in take(outbox)[1] if "/P0/" in row]) == 2
    assert caplog.text.count("the disk refuses") == 1


def test_live_events_go_before_the_backlog_of_which_at_most_rest(tmp_path: Path) -> None:
    """P0 of this epoch, then P0 of those before, then P1 of both; each seq ascending."""
    with opened(tmp_path) as outbox:
        old_ends, old_updates = put(outbox, Lane.P0, 3), put(outbox, Lane.P1, 3)
        assert outbox.backlog() == 3
        outbox.roll()
        assert outbox.backlog() == 0
        ends, updates = put(outbox, Lane.P0, 2), put(outbox, Lane.P1, 2)
        assert outbox.flush(HANGS_S)
        assert take(outbox, rest=0)[1] == ends
        assert take(outbox, rest=2)[1] == old_ends[:2]
        assert take(outbox)[1] == [old_ends[2], *old_updates, *updates]
        assert outbox.backlog() == 2
        outbox.release_all()
        assert take(outbox)[1] == [*ends, *old_ends, *old_updates, *updates]


def test_a_roll_names_what_is_on_disk_and_numbers_anew(tmp_path: Path) -> None:
    """`previous` is the epoch just ended with its last numbers; counts go on over both."""
    with opened(tmp_path, commit_s=SLOW) as outbox:
        first = outbox.epoch
        put(outbox, Lane.P0, 3)
        outbox.roll()
        assert outbox.previous is not None
        assert (outbox.previous.epoch, outbox.previous.last_seq) == (first, {"P0": 3})
        assert put(outbox, Lane.P0) == [f"dev/{outbox.epoch}/P0/1"]
        assert outbox.counts()[Lane.P0].queued == 4
        outbox.flush(HANGS_S)
        outbox.confirm(take(outbox)[0])
        for _ in range(3):
            outbox.roll()
        counts = outbox.counts()[Lane.P0]
        assert (counts.allocated, counts.confirmed, counts.queued) == (4, 4, 0)
        assert outbox.flush(HANGS_S)
        assert len(audit(tmp_path / "outbox.db").epochs) == 3, (
            "empty epochs go, but for those that had messages"
        )


def test_notes_outlive_the_run_in_the_order_they_were_given(tmp_path: Path) -> None:
    """An update's note does not bring back what a later end has let go; lone notes are kept too."""
    with opened(tmp_path) as outbox:
        for lane, key, keep in [
            (Lane.P0, "event/1", True),
            (Lane.P0, "event/2", True),
            (Lane.P1, "event/1", True),
            (Lane.P0, "event/1", False),
            (Lane.P1, "event/2", True),
        ]:
            outbox.put(lane, "t", lambda i: f"{i.lane.name}/{i.seq}".encode(), note=Note(key, keep))
        outbox.note("state/a", b"3")
        outbox.note("state/b", b"4")
        outbox.note("state/b", None)
        assert outbox.left == {}
    with opened(tmp_path) as outbox:
        assert outbox.left == {"event/2": b"P1/2", "state/a": b"3"}
        outbox.note("state/a", None)
    with opened(tmp_path) as outbox:
        assert outbox.left.keys() == {"event/2"}


@pytest.mark.parametrize(("boot", "known"), [("first", True), ("second", False), ("", False)])
def test_the_offset_of_a_clock_that_was_not_set_means_something_in_its_boot(
    tmp_path: Path, boot: str, known: bool
) -> None:
    """A row of an earlier run of this boot still tells it, one of another boot does not."""
    with opened(tmp_path, boot_id=boot and "first") as outbox:
        outbox.put(Lane.P0, "t", lambda _: b"early", offset_s=12.5)
        outbox.put(Lane.P0, "t", lambda _: b"late")
        assert outbox.flush(HANGS_S)
        assert [m.offset_s for m in outbox.take(9)] == [12.5, None]
    with opened(tmp_path, boot_id=boot) as outbox:
        assert [m.offset_s for m in outbox.take(9)] == [12.5 if known else None, None]


def test_a_dead_letter_is_counted_as_rejected(tmp_path: Path) -> None:
    """It is one of the evicted, in the run's counts and in the file."""
    with opened(tmp_path) as outbox:
        put(outbox, Lane.P0, 3)
        outbox.flush(HANGS_S)
        outbox.discard(take(outbox)[0][:1], reason="rejected")
        assert outbox.flush(HANGS_S)
        counts = outbox.counts()[Lane.P0]
        assert (counts.evicted, counts.rejected, counts.queued) == (1, 1, 2)
        (epoch,) = audit(tmp_path / "outbox.db").epochs
        assert [(lane.evicted, lane.rejected) for lane in epoch.lanes] == [(0, 0), (1, 1)]


def test_rows_that_vanish_without_a_fault_are_missed(tmp_path: Path) -> None:
    """When all rows were looked through and the accounts know of more, the file is repaired and a gap told."""
    with opened(tmp_path) as outbox:
        sent = put(outbox, Lane.P0, 4)
        assert outbox.flush(HANGS_S)
        with sqlite3.connect(tmp_path / "outbox.db") as raw:
            raw.execute("PRAGMA secure_delete = ON")
            raw.execute("DELETE FROM message WHERE key = ?", [make_key(1, 1, 2)])
        raw.close()
        keys, rows = take(outbox)
        assert rows == [sent[0], *sent[2:]]
        outbox.confirm(keys)
        assert outbox.flush(HANGS_S)
        gaps: list[str] = []
        wait_for(lambda: gaps.extend(take(outbox)[1]) or gaps, HANGS_S, "the gap")
        assert outbox.state.repaired == 1
        (gap,) = map(json.loads, gaps)
        assert (gap["lane"], gap["count"], gap["reason"]) == ("P0", 1, "corrupt")


def test_notes_wait_with_the_messages_while_the_disk_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is lost by a commit that failed, and a later word wins over an earlier one."""
    monkeypatch.setattr("agent.outbox.committer._RETRY_S", 0.02)
    failed = threading.Event()

    def fail(*_: object) -> None:
        failed.set()
        raise sqlite3.OperationalError("disk I/O error")

    with opened(tmp_path) as outbox:
        with monkeypatch.context() as patch:
            patch.setattr(outbox._file.journal, "commit", fail)
            outbox.note("a", b"1")
            outbox.note("b", b"1")
            assert failed.wait(HANGS_S)
            outbox.note("b", b"2")
            assert outbox.state.failing == "disk I/O error"
        assert outbox.flush(HANGS_S)
        wait_for(lambda: outbox.state.failing == "", HANGS_S, "the disk to be well again")
    with opened(tmp_path) as outbox:
        assert outbox.left == {"a": b"1", "b": b"2"}


def test_what_is_deleted_while_it_is_read_is_not_handed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit between reading and handing out: the row that was confirmed stays gone."""
    with opened(tmp_path, commit_s=SLOW) as outbox:
        sent = put(outbox, Lane.P0, 3)
        outbox.flush(HANGS_S)
        keys, _ = take(outbox)
        outbox.confirm(keys[1:2])
        outbox.release(keys[:1])
        read = outbox._file.journal.read

        def read_then_commit(*span: int) -> Any:
            rows = read(*span)
            assert outbox.flush(HANGS_S)
            return rows

        monkeypatch.setattr(outbox._file.journal, "read", read_then_commit)
        assert take(outbox)[1] == sent[:1]


def in_the_middle_of_a_commit(outbox: Outbox, monkeypatch: pytest.MonkeyPatch, step: Any) -> None:
    """Have `step` done once, when a commit is under way and nothing of it is on disk yet."""
    commit, steps = outbox._file.journal.commit, [step]

    def commit_late(batch: Any) -> None:
        if steps:
            steps.pop()()
        commit(batch)

    monkeypatch.setattr(outbox._file.journal, "commit", commit_late)
    assert outbox.flush(HANGS_S)
    assert not steps


def test_what_a_commit_is_about_to_delete_is_not_handed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is still there to be read, but was confirmed: to send it again would count it twice."""
    with opened(tmp_path, commit_s=SLOW) as outbox:
        sent = put(outbox, Lane.P0, 3)
        outbox.flush(HANGS_S)
        keys, _ = take(outbox)
        outbox.confirm(keys[1:2])
        outbox.release(keys[:1])
        seen: list[str] = []
        in_the_middle_of_a_commit(outbox, monkeypatch, lambda: seen.extend(take(outbox)[1]))
        assert seen == sent[:1]


def test_a_gap_that_is_being_rewritten_is_not_handed_out_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is on disk is told, and all of it."""
    with opened(tmp_path, commit_s=SLOW) as outbox:
        put(outbox, Lane.P0, 4)
        outbox.flush(HANGS_S)
        keys, _ = take(outbox)
        outbox.discard(keys[:1], reason="rejected")
        outbox.flush(HANGS_S)
        outbox.discard(keys[1:2], reason="rejected")
        seen: list[str] = []
        in_the_middle_of_a_commit(outbox, monkeypatch, lambda: seen.extend(take(outbox)[1]))
        assert seen == []
        assert [json.loads(row)["count"] for row in take(outbox)[1]] == [2]
