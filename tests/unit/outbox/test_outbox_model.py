"""The outbox beside a model of lists: any order of steps, with crashes and flipped bits between any two."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.outbox.ledger import Lane
from agent.outbox.outbox import Note, Outbox
from tests.patience import HANGS_S

SLOW = {Lane.P0: 3600.0, Lane.P1: 3600.0, Lane.GAP: 3600.0}
"""Commits happen when the machine asks for them."""
_FILES = ("outbox.db", "outbox.db-wal")


@dataclass
class Model:
    """What must be true. An id is "epoch/lane/seq"; `waiting` is not on disk, `stored` is."""

    waiting: list[str] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    allocated: Counter[tuple[str, str]] = field(default_factory=Counter)
    gone: set[str] = field(default_factory=set)  # confirmed or given up since the last commit
    settled: set[str] = field(default_factory=set)  # and before it
    under_way: dict[str, int] = field(default_factory=dict)
    notes: dict[str, bytes] = field(default_factory=dict)
    new_notes: dict[str, bytes | None] = field(default_factory=dict)


def folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder in memory: a crash here is a copy, the disk's own part is tested elsewhere."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder in it has a random name
    return tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)


def place(message: str) -> tuple[str, str]:
    """Return epoch and lane of an id."""
    epoch, lane, _ = message.split("/")
    return epoch, lane


def seq(message: str) -> int:
    """Return the number in an id."""
    return int(message.rpartition("/")[2])


class Machine(RuleBasedStateMachine):
    """Puts, takes, settles, rolls, crashes and damages; gaps are taken and confirmed as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = folder()
        self.model = Model()
        self.explained: dict[tuple[str, str], list[tuple[int, int, int]]] = {}
        self.last_handed: dict[tuple[str, str], int] = {}
        self.flipped = False
        self.open()

    @property
    def path(self) -> Path:
        return Path(self.folder.name) / "outbox.db"

    def open(self) -> None:
        self.outbox = Outbox(
            self.path, device="dev", gap_topic="gap", boot_id="b", commit_s=SLOW, max_bytes=1 << 20
        )
        self.last_handed = {}

    # -- steps --

    @rule(
        lane=st.sampled_from([Lane.P0, Lane.P1]), note=st.sampled_from([None, "a", "b"]), keep=st.booleans()
    )
    def put(self, lane: Lane, note: str | None, keep: bool) -> None:
        told = None if note is None else Note(note, keep)
        message = str(self.outbox.put(lane, "t", lambda i: str(i).encode(), note=told)).partition("/")[2]
        self.model.waiting.append(message)
        self.model.allocated[place(message)] += 1
        if note is not None:
            self.model.new_notes[note] = f"dev/{message}".encode() if keep else None

    @rule(key=st.sampled_from(["a", "c"]), value=st.sampled_from([None, b"1", b"2"]))
    def note(self, key: str, value: bytes | None) -> None:
        self.outbox.note(key, value)
        self.model.new_notes[key] = value

    @rule()
    def flush(self) -> None:
        assert self.outbox.flush(HANGS_S)
        self.committed()

    def committed(self) -> None:
        model = self.model
        model.stored += model.waiting
        model.settled |= model.gone
        for key, value in model.new_notes.items():
            model.notes.pop(key, None)
            if value is not None:
                model.notes[key] = value
        model.waiting, model.gone, model.new_notes = [], set(), {}

    @rule(limit=st.integers(1, 9), rest=st.sampled_from([None, 0, 2]))
    def take(self, limit: int, rest: int | None) -> None:
        epoch, backlog = self.outbox.epoch, 0
        for message in self.outbox.take(limit, rest=rest):
            if message.topic == "gap":
                self.take_gap(int(message.key), message.payload)
                continue
            taken = message.payload.decode().partition("/")[2]
            assert taken in self.model.stored or self.flipped, "was not committed, or is settled"
            assert taken not in self.model.under_way
            assert taken not in self.model.gone
            assert seq(taken) > self.last_handed.get(place(taken), 0), "out of order"
            self.last_handed[place(taken)] = seq(taken)
            self.model.under_way[taken] = int(message.key)
            backlog += place(taken) != (epoch, "P0")
        if self.flipped:  # it may have met the damage: the repair commits
            self.flush()
        if rest == 0:
            assert backlog <= 64, "only updates that go before an event"

    def take_gap(self, key: int, payload: bytes) -> None:
        gap: dict[str, Any] = json.loads(payload)
        known = self.explained.setdefault((gap["epoch"], gap["lane"]), [])
        known.append((gap["from_seq"], gap["to_seq"], gap["count"]))
        self.outbox.confirm([key])

    @precondition(lambda self: self.model.under_way)
    @rule(data=st.data(), how=st.sampled_from(["confirm", "release", "discard"]))
    def settle(self, data: st.DataObject, how: str) -> None:
        some = data.draw(st.lists(st.sampled_from(sorted(self.model.under_way)), min_size=1, unique=True))
        keys = [self.model.under_way.pop(message) for message in some]
        if how == "release":
            self.outbox.release(keys)
            self.forget_order(some)
            return
        if how == "confirm":
            self.outbox.confirm(keys)
        else:
            self.outbox.discard(keys, reason="rejected")
        self.model.gone |= set(some)
        self.model.stored = [message for message in self.model.stored if message not in some]

    def forget_order(self, released: list[str]) -> None:
        """Let what was released come again, before those behind it."""
        for message in released:
            self.last_handed[place(message)] = min(seq(message) - 1, self.last_handed.get(place(message), 0))

    @rule()
    def roll(self) -> None:
        before, at_most = self.outbox.epoch, dict(self.model.allocated)
        self.outbox.roll()
        self.committed()
        assert self.outbox.epoch != before
        previous = self.outbox.previous
        assert previous is None or previous.last_seq, "an epoch without messages tells nothing"
        last = {lane: at_most.get((before, lane), 0) for lane in ("P0", "P1")}
        if any(last.values()):
            assert previous is not None
            assert previous.epoch == before
            assert {lane: previous.last_seq.get(lane, 0) for lane in ("P0", "P1")} == last
        assert self.outbox.backlog() == 0

    @rule()
    def reopen(self) -> None:
        self.outbox.close()
        self.committed()
        self.model.under_way = {}
        self.open()
        self.check_notes()

    @rule()
    def crash(self) -> None:
        """Go on with the files as they are at this moment, as after a power cut."""
        left = folder()
        for name in _FILES:
            shutil.copy(Path(self.folder.name) / name, left.name)
        self.abandon(left)
        self.open()
        self.check_notes()

    def abandon(self, left: tempfile.TemporaryDirectory[str]) -> None:
        self.outbox.close()
        self.folder.cleanup()
        self.folder = left
        model = self.model
        for message in model.waiting:
            model.allocated[place(message)] -= 1
        for message in model.gone - set(model.waiting):
            model.stored.append(message)
        model.stored.sort(key=seq)
        model.waiting, model.gone, model.new_notes, model.under_way = [], set(), {}, {}

    def check_notes(self) -> None:
        if self.flipped:
            assert self.outbox.left.items() <= self.model.notes.items()
            self.model.notes = dict(self.outbox.left)
        else:
            assert self.outbox.left == self.model.notes

    @precondition(lambda self: not self.flipped)
    @rule(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def flip_a_bit(self, share: float, bit: int) -> None:
        """Go on with a file that has one bit wrong."""
        self.outbox.close()
        self.committed()
        self.model.under_way, self.flipped = {}, True
        content = bytearray(self.path.read_bytes())
        content[int(share * len(content))] ^= 1 << bit
        self.path.write_bytes(content)
        self.open()
        self.check_notes()

    # -- what always holds --

    @invariant()
    def accounts_balance(self) -> None:
        model, counts = self.model, self.outbox.counts()
        for lane in (Lane.P0, Lane.P1):
            count = counts[lane]
            assert min(count.queued, count.confirmed, count.evicted, count.corrupt) >= 0
            own = [m for m in model.stored + model.waiting if place(m) == (self.outbox.epoch, lane.name)]
            if not self.flipped:
                assert self.outbox.backlog() == len(own) or lane is Lane.P1
                assert count.queued >= len(own)

    @invariant()
    def the_file_balances(self) -> None:
        """At every commit: allocated = confirmed + rows + evicted + corrupt, for each epoch and lane."""
        if self.flipped:
            return
        with sqlite3.connect(f"file:{self.path}?mode=ro", uri=True) as file:
            accounts = file.execute(
                "SELECT (epoch << 38) | (lane << 60), allocated - confirmed - evicted - corrupt FROM account"
            ).fetchall()
            rows = Counter(key >> 38 << 38 for (key,) in file.execute("SELECT key FROM message"))
        file.close()
        assert {at: queued for at, queued in accounts if queued} == dict(rows)

    def teardown(self) -> None:
        """Nothing that was committed is missing: it comes in the end, or a gap told of it."""
        assert self.outbox.flush(HANGS_S)
        self.committed()
        self.outbox.release_all()
        self.last_handed, self.model.under_way = {}, {}
        for _ in range(1000):
            taken = self.outbox.take(50)
            for message in taken:
                if message.topic == "gap":
                    self.take_gap(int(message.key), message.payload)
                else:
                    self.arrives(message.payload.decode().partition("/")[2])
            self.outbox.confirm([int(message.key) for message in taken])
            if self.outbox.idle():
                break
            assert self.outbox.flush(HANGS_S)
        assert self.outbox.idle()
        self.nothing_is_missing()
        self.outbox.close()
        self.folder.cleanup()

    def arrives(self, message: str) -> None:
        if not self.flipped or message in self.model.stored:
            self.model.stored.remove(message)

    def nothing_is_missing(self) -> None:
        missing = Counter(map(place, self.model.stored))
        assert self.flipped or not missing
        for at, count in missing.items():
            gaps = self.explained.get(at, [])
            assert sum(gap[2] for gap in gaps) >= count or ("unknown", "P0") in self.explained
            for message in self.model.stored:
                covered = any(low <= seq(message) <= high for low, high, _ in gaps)
                assert covered or place(message) != at or ("unknown", "P0") in self.explained


TestOutbox = Machine.TestCase
TestOutbox.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
