"""The outbox: what was decided is committed here before it is sent, and leaves only when confirmed."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from agent import wire
from agent.journal import Journal, Stored, make_key, split_key
from agent.ledger import DURABLE, Counts, Lane, Ledger, MessageId
from agent.transport import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

log = logging.getLogger(__name__)

_RETRY_S = 1.0
_BURST_S = 0.01  # what one frame brings comes within this time, and goes in one commit
_VICTIMS = 256
_LIVE = 64  # fewer updates than this before a begin or end are no backlog: they go first
_REMEMBERED = 4096


COMMIT_S: Mapping[Lane, float] = {Lane.GAP: 1.0, Lane.P0: 0.1, Lane.P1: 1.0}


class Outbox:
    """Messages on their way out, in SQLite at `path`; `put` never waits for the disk, a thread commits.

    The bounds: `max_bytes` of file, `max_waiting` messages in memory while the disk refuses, `max_ram` of P2.
    What is over a bound is given up in the order P1, P0, oldest first, and reported on `gap_topic`.
    `take`, `confirm`, `discard`, `release` and `idle` belong to one thread, the publisher's.
    Raises CannotCreate where nothing can be kept, TryAgain when a running agent has the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str,
        gap_topic: str,
        commit_s: Mapping[Lane, float] = COMMIT_S,
        max_bytes: int = 64 << 20,
        max_waiting: int = 4096,
        max_ram: int = 100,
    ) -> None:
        self.epoch = secrets.token_hex(8)
        self._commit_s = {**COMMIT_S, **commit_s}
        self._max_bytes, self._max_waiting, self._max_ram = max_bytes, max_waiting, max_ram
        self._journal = Journal(path, epoch_name=self.epoch, max_bytes=max_bytes)
        self.previous = self._previous()
        self._changed = threading.Condition()
        self._ledger = Ledger(device, self._journal, gap_topic)
        self._waiting: dict[Lane, deque[Stored]] = {lane: deque() for lane in (Lane.P0, Lane.P1)}
        self._committing: dict[Lane, list[Stored]] = {}
        self._ram: dict[int, Stored] = {}
        self._handed: set[int] = set()
        self._gone: set[int] = set()
        self._gone_while_reading: set[int] = set()
        self._updates_before: dict[int, int] = {}
        self._cursor = {lane: make_key(lane, 0, 0) for lane in DURABLE}
        self._excepted: Collection[str] = frozenset()
        self._due_s: float | None = None
        self._committed_s = time.monotonic()
        self._changes = self._durable = 0
        self._closing = self._failing = self._stumbling = False
        self._notify: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the side that decides --

    def put(
        self, lane: Lane, topic: str, encode: Callable[[MessageId], bytes], *, retain: bool = False
    ) -> MessageId:
        """Queue what `encode` makes of the id; on disk within the lane's commit time. From any thread.

        `encode` runs at once, under the outbox's lock; when it raises, no id was used.
        """
        with self._changed:
            if self._closing:
                raise RuntimeError("the outbox is closed")
            message_id = self._ledger.next_id(lane)
            payload = encode(message_id)
            row = Stored(self._ledger.allocate(lane), topic, retain, payload)
            if lane is Lane.P2:
                self._ram[row.key] = row
                self._bound_ram()
            else:
                if lane is Lane.P0:
                    self._remember_updates(row.key)
                self._waiting[lane].append(row)
                self._bound_waiting()
                self._schedule(self._next_commit_in_s(lane))
        if lane is Lane.P2:
            self._notify()
        return message_id

    def flush(self, timeout_s: float) -> bool:
        """Commit all that was put or confirmed so far; return whether that was done within `timeout_s`."""
        with self._changed:
            target = self._changes
            if self._durable < target:
                self._schedule(0.0)
            return self._changed.wait_for(lambda: self._durable >= target, timeout_s)

    def counts(self) -> dict[Lane, Counts]:
        """Return the accounts of this run, by lane."""
        with self._changed:
            return self._ledger.counts()

    def close(self) -> None:
        """Commit what there is and let the file go; may be called twice."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self._thread.join(5.0)
        if self._thread.is_alive() or any(self._waiting.values()):
            log.error("outbox: the disk did not take the last messages: %d are lost", self._unsaved())
        if not self._thread.is_alive():
            self._journal.close()

    # -- the side that sends --

    def on_commit(self, notify: Callable[[], None]) -> None:
        """Call `notify` from now on whenever there may be something to take; it must not block."""
        self._notify = notify
        notify()

    def take(self, limit: int, *, except_topics: Collection[str] = frozenset()) -> list[Message]:
        """Return up to `limit` committed messages in the order of sending: by lane, then epoch, then seq.

        While there is no backlog an update goes before the P0 message that was put after it, so that no event
        is updated after its end. Each is handed out once, until it is released. Rows of `except_topics` stay
        where they are.
        """
        if not set(self._excepted) <= set(except_topics):
            self._cursor = {lane: make_key(lane, 0, 0) for lane in DURABLE}
        self._excepted = frozenset(except_topics)
        taken: list[Message] = []
        for lane in DURABLE:
            while len(taken) < limit and (page := self._read(lane, limit)):
                hand_out = self._hand_out_p0 if lane is Lane.P0 else self._hand_out
                taken += hand_out(lane, page, limit - len(taken))
        return taken + self._take_ram(limit - len(taken))

    def confirm(self, keys: Iterable[int]) -> None:
        """Delete these: they have arrived."""
        with self._changed:
            for key in self._handed.intersection(keys):
                self._forget(key)
                self._ledger.confirm(key)

    def discard(self, keys: Iterable[int], *, reason: str) -> None:
        """Delete these: they will never be taken. Counted as evicted and reported as a gap."""
        with self._changed:
            for key in sorted(self._handed.intersection(keys)):
                self._forget(key)
                self._lose(key, reason)

    def release(self, keys: Iterable[int]) -> None:
        """Take these back: `take` hands them out again."""
        with self._changed:
            for key in self._handed.intersection(keys):
                self._handed.discard(key)
                self._rewind(key)

    def release_all(self) -> None:
        """Take back all that is under way."""
        with self._changed:
            for key in self._handed:
                self._rewind(key)
            self._handed.clear()

    def idle(self) -> bool:
        """Return whether everything was confirmed: nothing waits, is under way or lies in the file."""
        with self._changed:
            growing = bool(self._ledger.growing())
            if any(self._waiting.values()) or self._committing or self._handed or self._ram or growing:
                return False
            gone = set(self._gone)
        return all(key in gone for key in self._journal.keys(len(gone) + 1))

    def _read(self, lane: Lane, limit: int, end: int | None = None) -> list[Stored]:
        with self._changed:
            self._gone_while_reading.clear()
        return self._journal.read(self._cursor[lane], end or make_key(lane + 1, 0, 0), limit)

    def _hand_out_p0(self, lane: Lane, page: list[Stored], limit: int) -> list[Message]:
        """Hand out rows of P0, each after the updates that were put before it."""
        taken: list[Message] = []
        for row in page:
            taken += self._hand_out_updates(row.key, limit - len(taken))
            if len(taken) == limit:
                break
            taken += self._hand_out(lane, [row], 1)
        return taken

    def _hand_out_updates(self, before: int, limit: int) -> list[Message]:
        """Hand out the updates put before the P0 message `before`, unless they are a backlog."""
        last = self._updates_before.get(before, 0)
        end = make_key(Lane.P1, self._journal.epoch, last + 1)
        if not last or self._cursor[Lane.P1] >= end:
            return []
        page = self._read(Lane.P1, _LIVE + 1, end)
        return [] if len(page) > _LIVE else self._hand_out(Lane.P1, page, limit)

    def _hand_out(self, lane: Lane, page: list[Stored], limit: int) -> list[Message]:
        """Mark up to `limit` rows of `page` as handed out, passing over those that went or grow."""
        taken: list[Message] = []
        with self._changed:
            skip = self._handed | self._gone | self._gone_while_reading | self._ledger.growing()
            for row in page:
                if len(taken) == limit:
                    break
                self._cursor[lane] = row.key + 1
                if row.key in skip or row.topic in self._excepted:
                    continue
                if not row.intact:
                    log.error(
                        "outbox: message %s is damaged on disk: reported as a gap", self._ledger.name(row.key)
                    )
                    self._forget(row.key)
                    self._lose(row.key, "corrupt")
                    continue
                self._handed.add(row.key)
                taken.append(Message(row.key, row.topic, row.payload, retain=row.retain))
            if lane is Lane.GAP:
                self._ledger.close_gaps(self._handed)
        return taken

    def _take_ram(self, limit: int) -> list[Message]:
        with self._changed:
            rows = [
                r for r in self._ram.values() if r.key not in self._handed and r.topic not in self._excepted
            ]
            self._handed.update(row.key for row in rows[:limit])
        return [Message(row.key, row.topic, row.payload, qos=0) for row in rows[:limit]]

    def _remember_updates(self, key: int) -> None:
        """Note how many updates were put before the P0 message `key`; the oldest notes are forgotten."""
        self._updates_before[key] = self._ledger.last(Lane.P1)
        if len(self._updates_before) > _REMEMBERED:
            del self._updates_before[next(iter(self._updates_before))]

    def _rewind(self, key: int) -> None:
        lane = Lane(split_key(key)[0])
        if lane in self._cursor:
            self._cursor[lane] = min(self._cursor[lane], key)

    # -- accounts; all under the lock --

    def _forget(self, key: int) -> None:
        """Never hand `key` out again; its row goes with the next commit."""
        self._handed.discard(key)
        self._updates_before.pop(key, None)
        if self._ram.pop(key, None) is None:
            self._gone.add(key)
            self._schedule(self._commit_s[Lane.P1])

    def _lose(self, key: int, reason: str) -> None:
        """Account for a message that will not come, and have it reported."""
        self._ledger.lose(key, reason)
        self._schedule(self._commit_s[Lane.GAP])

    def _bound_ram(self) -> None:
        while len(self._ram) > self._max_ram:
            key = next((key for key in self._ram if key not in self._handed), None)
            if key is None:
                return
            del self._ram[key]
            self._lose(key, "memory_full")

    def _bound_waiting(self) -> None:
        while sum(map(len, self._waiting.values())) > self._max_waiting:
            row = (self._waiting[Lane.P1] or self._waiting[Lane.P0]).popleft()
            self._lose(row.key, "disk_refuses")

    def _schedule(self, within_s: float) -> None:
        """Have a commit within this time, unless the disk refuses and its retry is due later."""
        self._changes += 1
        due_s = time.monotonic() + within_s
        if self._due_s is None or (due_s < self._due_s and not self._failing):
            self._due_s = due_s
            self._changed.notify_all()

    def _next_commit_in_s(self, lane: Lane) -> float:
        """Seconds until a row of `lane` is committed: soon after a quiet time, else with those that follow it.

        Two commits are a lane's commit time apart, as with a fixed delay, but a lone message does not wait.
        """
        return max(_BURST_S, self._committed_s + self._commit_s[lane] - time.monotonic())

    def _previous(self) -> wire.Previous | None:
        name = self._journal.epochs.get(self._journal.epoch - 1)
        last: dict[wire.Lane, int] = {}
        for lane, seq in self._journal.previous_last_seq.items():
            last[Lane(lane).name] = seq  # type: ignore[index]
        return None if name is None else wire.Previous(name, last)

    def _unsaved(self) -> int:
        return sum(map(len, self._waiting.values())) + sum(map(len, self._committing.values()))

    # -- the committing thread --

    def _run(self) -> None:
        while self._wait_until_due():
            self._survive(self._round)
        self._survive(self._round)

    def _survive(self, step: Callable[[], None]) -> None:
        """Do `step`; when it fails, say so once and have another round: without this thread all is lost."""
        try:
            step()
        except Exception as fault:
            if not self._stumbling:
                log.error("outbox: %s: %s; it goes on", type(fault).__name__, fault)
                log.debug("outbox: fault", exc_info=fault)
            self._stumbling = True
            with self._changed:
                self._due_s = time.monotonic() + _RETRY_S
        else:
            self._stumbling = False

    def _wait_until_due(self) -> bool:
        with self._changed:
            while not self._closing:
                wait_s = None if self._due_s is None else self._due_s - time.monotonic()
                if wait_s is not None and wait_s <= 0:
                    return True
                self._changed.wait(wait_s)
        return False

    def _round(self) -> None:
        """Commit, then make room if need be: a full disk may take messages again once there is some."""
        try:
            self._commit()
        except Exception as fault:  # noqa: BLE001 - capture goes on, messages wait
            self._put_back(fault)
        else:
            if self._failing:
                log.warning("outbox: the disk takes messages again")
            self._failing = False
            self._notify()
        if not self._closing:
            self._evict()

    def _commit(self) -> None:
        """Write waiting rows, deletions and grown gaps in one transaction."""
        with self._changed:
            self._due_s, self._committed_s, changes = None, time.monotonic(), self._changes
            self._committing = {lane: list(rows) for lane, rows in self._waiting.items() if rows}
            for waiting in self._waiting.values():
                waiting.clear()
            last_seq = self._ledger.last_seq()
            deleted = set(self._gone)
            reports = self._ledger.grown()
        rows = [row for row, _ in reports] + [row for lane in self._committing.values() for row in lane]
        if rows or deleted:
            self._journal.commit(rows, deleted, last_seq)
        with self._changed:
            self._gone -= deleted
            self._gone_while_reading |= deleted
            self._ledger.written(reports)
            for row, _ in reports:
                self._gone_while_reading.add(row.key)
                self._rewind(row.key)
            self._committing = {}
            self._durable = changes
            self._changed.notify_all()

    def _put_back(self, fault: Exception) -> None:
        """Keep in memory what the disk did not take, within the bound, and try again later."""
        with self._changed:
            known, self._failing = self._failing, True
            for lane, rows in self._committing.items():
                self._waiting[lane].extendleft(reversed(rows))
            self._committing = {}
            self._bound_waiting()
            self._due_s = time.monotonic() + _RETRY_S
        if not known:
            log.error("outbox: the disk refuses (%s): messages are kept in memory and tried again", fault)
            log.debug("outbox: commit failed", exc_info=fault)

    def _evict(self) -> None:
        """Bring the file below its bound, with a twentieth to spare: P1 before P0, the oldest first.

        Raises sqlite3.Error; what was given up until then is accounted for.
        """
        excess = self._journal.used_bytes() - self._max_bytes
        if excess <= 0:
            return
        excess += self._max_bytes // 20
        for lane in (Lane.P1, Lane.P0):
            key, end = make_key(lane, 0, 0), make_key(lane + 1, 0, 0)
            while excess > 0 and (page := self._journal.sizes(key, end, _VICTIMS)):
                key = page[-1][0] + 1
                excess -= self._give_up(page, excess)
        with self._changed:
            self._schedule(0.0)

    def _give_up(self, page: list[tuple[int, int]], excess: int) -> int:
        """Give up rows of `page` that are not under way until `excess` bytes are had; return the bytes."""
        freed = 0
        with self._changed:
            for key, size_bytes in page:
                if freed >= excess:
                    break
                if key in self._handed:
                    continue
                freed += size_bytes
                if key not in self._gone:
                    self._forget(key)
                    self._lose(key, "disk_full")
        return freed
