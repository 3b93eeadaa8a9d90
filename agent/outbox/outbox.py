"""The outbox: what was decided is committed here before it is sent, and leaves only when confirmed."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.outbox.committer import Committer
from agent.outbox.file import open_file
from agent.outbox.handout import Handout
from agent.outbox.ledger import Lane
from agent.outbox.pending import Pending
from agent.outbox.stored import Account, Epoch, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from agent import wire
    from agent.heartbeat import Beat
    from agent.outbox.ledger import MessageId
    from agent.transport import Message

log = logging.getLogger(__name__)

_BURST_S = 0.01  # what one frame brings comes within this time, and goes in one commit
_ROLL_S = 1.0
_MANY_GONE, _GONE_S = 8, 0.03  # what was confirmed and is still on disk is sent twice after a crash

COMMIT_S: Mapping[Lane, float] = {Lane.GAP: 1.0, Lane.P0: 0.1, Lane.P1: 1.0}
SD_SAVER_S: Mapping[Lane, float] = {Lane.GAP: 5.0, Lane.P0: 0.1, Lane.P1: 5.0}
"""Commit times that spare an SD card: P0 as soon as ever, updates within 5 s."""


@dataclass(frozen=True, slots=True)
class Note:
    """What is to be remembered with a message: its payload as note `key`, or that this note can go."""

    key: str
    keep: bool


@dataclass(frozen=True, slots=True)
class OutboxState:
    """How the outbox stands. `failing`: why the disk refuses, "" when it does not.

    `repaired`: damaged files that this run replaced. `durable` is False when the file lies in memory.
    """

    queued: int
    used_bytes: int
    max_bytes: int
    failing: str
    repaired: int
    durable: bool


class Outbox:
    """Messages on their way out, in SQLite at `path`; `put` never waits for the disk, a thread commits.

    The bounds: `max_bytes` of file, `max_waiting` messages in memory while the disk refuses, `max_ram` of P2.
    What is over a bound is given up in the order P1, P0, oldest first, and reported on `gap_topic`.
    `take`, `confirm`, `discard`, `release` and `idle` belong to one thread, the publisher's.
    `left` are the notes of the runs before. Raises CannotCreate where nothing can be kept, TryAgain when a
    running agent has the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str,
        gap_topic: str,
        boot_id: str = "",
        commit_s: Mapping[Lane, float] = COMMIT_S,
        max_bytes: int = 64 << 20,
        max_waiting: int = 4096,
        max_ram: int = 100,
    ) -> None:
        self._boot_id, self._commit_s, self._max_ram = boot_id, {**COMMIT_S, **commit_s}, max_ram
        file = open_file(
            path, device=device, gap_topic=gap_topic, epoch=self._new_epoch(), max_bytes=max_bytes
        )
        self.left, self._file = file.left, file
        self._changed = threading.Condition()
        self._ledger, self._pending = file.ledger, Pending(file.left)
        self._out = Handout(
            self._changed,
            file.journal,
            self._ledger,
            self._pending,
            on_damage=lambda fault: self._committer.damaged(fault),
            on_more=lambda: self._committer.notify(),
        )
        self._committer = Committer(
            self._changed,
            file.journal,
            self._ledger,
            self._pending,
            self._out,
            max_bytes=file.max_bytes,
            max_waiting=max_waiting,
            new_epoch=self._new_epoch,
        )
        self._closing = False
        self._committer.start()

    def _new_epoch(self) -> Epoch:
        return Epoch(secrets.token_hex(8), self._boot_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the side that decides --

    def put(
        self,
        lane: Lane,
        topic: str,
        encode: Callable[[MessageId], bytes],
        *,
        retain: bool = False,
        offset_s: float | None = None,
        note: Note | None = None,
    ) -> MessageId:
        """Queue what `encode` makes of the id; on disk within the lane's commit time. From any thread.

        `encode` runs at once, under the outbox's lock; when it raises, no id was used. `offset_s`: utc minus
        monotonic time the payload was made with while the clock was not synchronised. `note` is written in
        the same transaction.
        """
        with self._changed:
            if self._closing:
                raise RuntimeError("the outbox is closed")
            message_id = self._ledger.next_id(lane)
            payload = encode(message_id)
            row = Stored(self._ledger.allocate(lane), topic, retain, payload, offset_s)
            told = None if note is None else (note.key, payload if note.keep else None)
            if lane is Lane.P2:
                if told is not None:
                    self._pending.note(*told)
                for key in self._out.keep(row, self._max_ram):
                    self._lose(key, "memory_full")
            else:
                if lane is Lane.P0:
                    self._out.remember_updates(row.key)
                self._pending.add(lane, row, told)
                self._committer.bound_waiting()
                self._committer.schedule(self._next_commit_in_s(lane))
        if lane is Lane.P2:
            self._committer.notify()
        return message_id

    def note(self, key: str, value: bytes | None) -> None:
        """Remember `value` as `key` for the runs to come, or forget it (None); within P1's commit time."""
        with self._changed:
            self._pending.note(key, value)
            self._committer.schedule(self._next_commit_in_s(Lane.P1))

    def flush(self, timeout_s: float) -> bool:
        """Commit all that was put or confirmed so far; return whether that was done within `timeout_s`."""
        return self._committer.flush(timeout_s)

    def roll(self) -> None:
        """Begin a new epoch: what is queued becomes a backlog of the epoch before. From any thread.

        Waits up to a second for a commit, so that `previous` tells all that the epoch had. A file that waits
        for its repair gets a new epoch by that.
        """
        with self._changed:
            if not self._out.closed:
                self._ledger.begin(self._new_epoch())
            self._committer.schedule(0.0)
        self.flush(_ROLL_S)

    @property
    def epoch(self) -> str:
        """The name of the epoch that numbers are taken from."""
        with self._changed:
            return self._ledger.name()

    @property
    def previous(self) -> wire.Previous | None:
        """The last epoch before that had messages, with the last number on disk of each lane; None without."""
        return next(iter(self.before), None)

    @property
    def before(self) -> tuple[wire.Previous, ...]:
        """`previous` and those before it, the latest first: for a subscriber who has missed births."""
        with self._changed:
            return self._ledger.before()

    def counts(self) -> dict[Lane, Account]:
        """Return the accounts of this run, by lane; all its epochs together."""
        with self._changed:
            return self._ledger.counts()

    @property
    def state(self) -> OutboxState:
        """How it stands now."""
        with self._changed:
            return OutboxState(
                queued=self._ledger.queued(),
                used_bytes=self._committer.used_bytes,
                max_bytes=self._file.max_bytes,
                failing=self._committer.failing or self._out.fault,
                repaired=self._file.repaired + self._committer.repaired,
                durable=self._file.durable,
            )

    @property
    def beat(self) -> Beat:
        """What the committing thread does now."""
        return self._committer.beat

    def close(self) -> None:
        """Commit what there is and let the file go; may be called twice."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
        ended = self._committer.close()
        with self._changed:
            self._out.closed = True
            ended = self._changed.wait_for(lambda: not self._out.taking, _ROLL_S) and ended
        if lost := len(self._pending):
            log.error("outbox: the disk did not take the last messages: %d are lost", lost)
        if ended:
            self._file.journal.close()

    # -- the side that sends --

    def on_commit(self, notify: Callable[[], None]) -> None:
        """Call `notify` from now on whenever there may be something to take; it must not block."""
        self._committer.notify = notify
        notify()

    def take(
        self, limit: int, *, rest: int | None = None, except_topics: Collection[str] = frozenset()
    ) -> list[Message]:
        """Return up to `limit` committed messages in the order of sending; each once, until it is released.

        First gaps and P0 of this epoch, then P0 of the epochs before, then P1: of these at most `rest`. Seqs
        ascend in each epoch and lane. While there is no backlog an update goes before the P0 message of this
        epoch that was put after it, so that no event is updated after its end. Rows of `except_topics` stay.
        """
        return self._out.take(limit, limit if rest is None else rest, except_topics)

    def backlog(self) -> int:
        """Return how many P0 messages of this epoch were put and are not confirmed or given up."""
        with self._changed:
            return self._ledger.queued(Lane.P0)

    def confirm(self, keys: Iterable[int]) -> None:
        """Delete these: they have arrived."""
        with self._changed:
            for key in self._out.handed.intersection(keys):
                self._forget(key)
                self._ledger.confirm(key)

    def discard(self, keys: Iterable[int], *, reason: str) -> None:
        """Delete these: they will never be taken. Counted as evicted and reported as a gap."""
        with self._changed:
            for key in sorted(self._out.handed.intersection(keys)):
                self._forget(key)
                self._lose(key, reason)

    def release(self, keys: Iterable[int]) -> None:
        """Take these back: `take` hands them out again."""
        with self._changed:
            self._out.release(keys)

    def release_all(self) -> None:
        """Take back all that is under way."""
        with self._changed:
            self._out.release(set(self._out.handed))

    def idle(self) -> bool:
        """Return whether everything was confirmed: nothing waits, is under way or lies in the file."""
        with self._changed:
            return self._ledger.queued() == 0

    # -- under the lock --

    def _forget(self, key: int) -> None:
        """Never hand `key` out again; its row goes with the next commit."""
        if self._out.forget(key):
            self._pending.gone.add(key)
            many = len(self._pending.gone) >= _MANY_GONE
            self._committer.schedule(self._in_s(_GONE_S) if many else self._commit_s[Lane.P1])

    def _lose(self, key: int, reason: str) -> None:
        """Account for a message that will not come, and have it reported."""
        self._ledger.lose(key, reason)
        self._committer.schedule(self._commit_s[Lane.GAP])

    def _next_commit_in_s(self, lane: Lane) -> float:
        """Seconds until a row of `lane` is committed: soon after a quiet time, else with those that follow it.

        Two commits are a lane's commit time apart, as with a fixed delay, but a lone message does not wait.
        """
        return max(_BURST_S, self._in_s(self._commit_s[lane]))

    def _in_s(self, apart_s: float) -> float:
        """Seconds until two commits are this far apart."""
        return self._committer.committed_s + apart_s - time.monotonic()
