"""The outbox: order, accounts, bounds, gaps, damage; and it does as a simple model does."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.errors import CannotCreate, TryAgain
from agent.journal import make_key, split_key
from agent.ledger import COUNTED, Lane
from agent.outbox import Outbox
from tests.e2e.brokers import wait_for

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
        assert outbox.flush(5)
        assert take(outbox, 3)[1] == early + late[:1]
        assert take(outbox)[1] == late[1:]
        assert take(outbox)[1] == []


def test_an_event_is_not_updated_after_its_end(tmp_path: Path) -> None:
    """A few updates put before an end go before it, and those put later after it; also when resent."""
    with opened(tmp_path) as outbox:
        new, update, end = put(outbox, Lane.P0), put(outbox, Lane.P1, 2), put(outbox, Lane.P0)
        later = put(outbox, Lane.P1)
        outbox.flush(5)
        assert take(outbox, 2)[1] == [*new, update[0]]
        assert take(outbox)[1] == [update[1], *end, *later]
        outbox.release_all()
        assert take(outbox)[1] == [*new, *update, *end, *later]


def test_a_backlog_of_updates_does_not_hold_up_an_end(tmp_path: Path) -> None:
    """With many updates waiting the end goes first, and the updates keep their order."""
    with opened(tmp_path) as outbox:
        updates, end = put(outbox, Lane.P1, 100), put(outbox, Lane.P0)
        outbox.flush(5)
        assert take(outbox, 200)[1] == [*end, *updates]


def test_rows_are_committed_in_time_without_a_flush(tmp_path: Path) -> None:
    """A P0 row wakes the publisher within its commit time."""
    woken = threading.Event()
    with opened(tmp_path, commit_s={Lane.P0: 0.05}) as outbox:
        outbox.on_commit(woken.set)
        woken.clear()
        put(outbox, Lane.P0)
        assert woken.wait(5)
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


def test_a_new_start_has_a_new_epoch_and_sends_the_old_rows_first(tmp_path: Path) -> None:
    """Older rows come first, confirmed ones never again, and `previous` names the last numbers."""
    with opened(tmp_path) as outbox:
        put(outbox, Lane.P0, 3)
        put(outbox, Lane.P1, 1)
        outbox.flush(5)
        keys, rows = take(outbox)
        outbox.confirm(keys[1:3])
        epoch = outbox.epoch
    with opened(tmp_path) as outbox:
        assert outbox.epoch != epoch
        assert outbox.previous is not None
        assert (outbox.previous.epoch, outbox.previous.last_seq) == (epoch, {"P0": 3, "P1": 1})
        new = put(outbox, Lane.P0)
        outbox.flush(5)
        keys, seen = take(outbox)
        assert seen == [rows[0], *new, rows[3]]
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
        outbox.flush(5)
        assert take(outbox, except_topics={"held"})[1] == free
        assert take(outbox, except_topics={"held"})[1] == []
        assert take(outbox)[1] == held


def test_over_the_byte_cap_updates_go_before_ends_and_a_gap_tells(tmp_path: Path) -> None:
    """The oldest P1 rows are given up first, P0 stays, gaps account for all and survive a restart."""
    with opened(tmp_path, max_bytes=400_000) as outbox:
        ends = put(outbox, Lane.P0, 50, size=1000)
        for _ in range(8):
            put(outbox, Lane.P1, 100, size=1000)
            assert outbox.flush(5)
        outbox.flush(5)
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
        outbox.flush(5)
        keys, _ = take(outbox)
        outbox.discard(keys[:1], reason="rejected")
        outbox.discard(keys[1:2], reason="rejected")
        outbox.flush(5)
        _, rows = take(outbox)
        outbox.discard(keys[2:3], reason="rejected")
        outbox.flush(5)
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
        assert take(outbox)[1] == [sent[0], sent[2]]
        outbox.flush(5)
        (gap,) = (json.loads(row) for row in take(outbox)[1])
        assert (gap["from_seq"], gap["to_seq"], gap["count"], gap["reason"]) == (2, 2, 1, "corrupt")


@pytest.mark.parametrize("content", [b"not a database" * 999, b"SQLite format 3\0" + b"\xff" * 5000, b""])
def test_a_damaged_file_is_set_aside(tmp_path: Path, content: bytes) -> None:
    """What is no outbox is kept under another name and a new one begun; an empty file simply is one."""
    (tmp_path / "outbox.db").write_bytes(content)
    with opened(tmp_path) as outbox:
        put(outbox, Lane.P0)
        assert outbox.flush(5)
    damaged = [path for path in tmp_path.glob("*.damaged-*") if path.suffix.startswith(".damaged")]
    assert [path.read_bytes() for path in damaged if path.stat().st_size] == ([content] if content else [])


def test_a_second_agent_is_refused(tmp_path: Path) -> None:
    """The file belongs to one process at a time; the line says to which, and how to have two agents."""
    import os

    with opened(tmp_path), pytest.raises(TryAgain, match=f"process {os.getpid()}") as caught:
        opened(tmp_path)
    assert "another --state and --device" in str(caught.value)
    opened(tmp_path).close()


@pytest.mark.parametrize("where", ["file/outbox.db", "folder", "/proc/none/outbox.db"])
def test_a_place_that_can_not_hold_it(tmp_path: Path, where: str) -> None:
    """A parent that is a file, a path that is a folder, a file system that takes nothing: exit code 73."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(CannotCreate, match="can't keep the outbox") as caught:
        Outbox(tmp_path / where, device="dev", gap_topic="gap")
    assert caught.value.exit_code == 73


def test_a_disk_that_refuses_is_waited_for_within_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While commits fail rows wait in memory, over the bound P1 goes first; one error is logged."""
    monkeypatch.setattr("agent.outbox._RETRY_S", 0.02)
    with opened(tmp_path, max_waiting=10) as outbox:
        commit = outbox._journal.commit
        fault = sqlite3.OperationalError("database or disk is full")
        monkeypatch.setattr(outbox._journal, "commit", lambda *_: (_ for _ in ()).throw(fault))
        updates = put(outbox, Lane.P1, 6)
        ends = put(outbox, Lane.P0, 8)
        assert not outbox.flush(0.3)
        monkeypatch.setattr(outbox._journal, "commit", commit)
        assert outbox.flush(5)
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
    monkeypatch.setattr("agent.outbox._RETRY_S", 0.01)
    failed = threading.Semaphore(0)

    def fail(*_: object) -> None:
        failed.release()
        raise sqlite3.OperationalError("disk I/O error")

    with opened(tmp_path, max_bytes=100_000) as outbox:
        outbox._max_bytes = 1 << 30
        put(outbox, Lane.P1, 60, size=3000)
        assert outbox.flush(5)
        outbox._max_bytes = 100_000
        with monkeypatch.context() as patch:
            for name in {"commit": ["commit", "sizes"], "used_bytes": ["used_bytes"]}.get(broken, ["sizes"]):
                patch.setattr(outbox._journal, name, fail)
            put(outbox, Lane.P0)
            for _ in range(4):
                assert failed.acquire(timeout=5), "the thread has ended"
        assert outbox._thread.is_alive()
        put(outbox, Lane.P0)
        assert outbox.flush(5)
        wait_for(lambda: outbox.counts()[Lane.P1].evicted and outbox.flush(5), 5, "room to be made")
        assert balanced(outbox)
        assert len([row for row in take(outbox)[1] if "/P0/" in row]) == 2
    assert caplog.text.count("it goes on") == 1


class Machine(RuleBasedStateMachine):
    """The outbox, without a backlog, beside a model of lists; a crash undoes what was not committed."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.committed: list[tuple[int, int, str]] = []  # lane, epoch number, id: neither confirmed nor lost
        self.waiting: list[tuple[int, int, str]] = []
        self.confirmed: list[tuple[int, int, str]] = []  # since the last commit
        self.out: dict[str, int] = {}
        self.before: dict[str, list[str]] = {}  # a P0 message of this start: the updates put before it
        self.updates: list[str] = []  # of this start
        self.epoch = 0
        self.open()

    def open(self) -> None:
        self.epoch += 1
        self.before, self.updates = {}, []
        self.outbox = opened(Path(self.folder.name), commit_s=SLOW)

    @rule(lane=st.sampled_from([Lane.P0, Lane.P1]), count=st.integers(1, 2))
    def put(self, lane: Lane, count: int) -> None:
        ids = put(self.outbox, lane, count)
        self.waiting += [(lane, self.epoch, i) for i in ids]
        if lane is Lane.P1:
            self.updates += ids
        else:
            self.before |= {i: list(self.updates) for i in ids}

    @rule()
    def commit(self) -> None:
        assert self.outbox.flush(5)
        self.committed += self.waiting
        self.waiting, self.confirmed = [], []

    @rule(limit=st.integers(1, 8))
    def take(self, limit: int) -> None:
        ordered = sorted(self.committed, key=lambda m: (m[0], m[1], int(m[2].rpartition("/")[2])))
        waiting = [(lane, epoch, i) for lane, epoch, i in ordered if i not in self.out]
        expected: list[str] = []
        for lane, _, i in waiting:
            if lane == Lane.P0 and self.before.get(i):
                first = {*self.before[i], *(i for _, epoch, i in waiting if epoch < self.epoch)}
                expected += [i for lane, _, i in waiting if lane == Lane.P1 and i in first]
            expected.append(i)
        expected = list(dict.fromkeys(expected))[:limit]
        keys, rows = take(self.outbox, limit)
        assert rows == expected
        self.out.update(zip(rows, keys, strict=True))

    @precondition(lambda self: self.out)
    @rule(data=st.data(), confirm=st.booleans())
    def settle(self, data: st.DataObject, confirm: bool) -> None:
        some = data.draw(st.lists(st.sampled_from(sorted(self.out)), min_size=1, unique=True))
        keys = [self.out.pop(i) for i in some]
        if confirm:
            self.outbox.confirm(keys)
            self.confirmed += [m for m in self.committed if m[2] in some]
            self.committed = [m for m in self.committed if m[2] not in some]
        else:
            self.outbox.release(keys)

    @rule()
    def reopen(self) -> None:
        self.outbox.close()
        self.committed += self.waiting
        self.waiting, self.confirmed, self.out = [], [], {}
        self.open()

    @rule()
    def crash(self) -> None:
        """Go on with the files as they are at this moment, as after a power cut."""
        left = tempfile.TemporaryDirectory()
        for name in ("outbox.db", "outbox.db-wal"):
            shutil.copy(Path(self.folder.name) / name, left.name)
        self.outbox.close()
        self.folder.cleanup()
        self.folder = left
        self.committed += self.confirmed
        self.waiting, self.confirmed, self.out = [], [], {}
        self.open()

    @invariant()
    def accounts_balance(self) -> None:
        assert balanced(self.outbox)
        own = [m for m in self.committed + self.waiting if m[1] == self.epoch]
        assert sum(self.outbox.counts()[lane].queued for lane in COUNTED) == len(own)
        assert self.outbox.idle() == (not self.committed and not self.waiting)

    def teardown(self) -> None:
        self.outbox.close()
        self.folder.cleanup()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
