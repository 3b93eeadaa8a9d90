"""The order of sending: which committed rows are handed out next, and which are under way."""

from __future__ import annotations

import logging
import sqlite3
import time
from typing import TYPE_CHECKING

from agent.outbox.ledger import Lane
from agent.outbox.stored import FILE_FAULTS, is_damage, make_key, one_line, split_key
from agent.transport import Message

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection, Iterable

    from agent.outbox.journal import Journal
    from agent.outbox.ledger import Ledger
    from agent.outbox.pending import Pending
    from agent.outbox.stored import Stored

log = logging.getLogger(__name__)

_LIVE = 64  # fewer updates than this before a begin or end are no backlog: they go first
_REMEMBERED = 4096
_MOST_GONE = 16384
_PAGE, _LOOK_S = 256, 0.05
"""How many rows are read at once, and how long in one call, where those before were excepted."""

Stream = tuple[Lane, bool]
"""A lane, of this epoch (True) or of those before it."""
_FIRST: tuple[Stream, ...] = ((Lane.GAP, False), (Lane.GAP, True), (Lane.P0, True))
_REST: tuple[Stream, ...] = ((Lane.P0, False), (Lane.P1, False), (Lane.P1, True))


class Handout:
    """Hands out each row once, until it is released. While `closed` nothing is read: the file is repaired.

    `take` belongs to one thread; all else needs the lock `changed`. `fault` says why it can't be read, "" when it can.
    """

    def __init__(
        self,
        changed: threading.Condition,
        journal: Journal,
        ledger: Ledger,
        pending: Pending,
        *,
        on_damage: Callable[[Exception], None],
        on_more: Callable[[], None],
    ) -> None:
        self._changed, self._journal, self._ledger, self._pending = changed, journal, ledger, pending
        self._on_damage, self._on_more = on_damage, on_more
        self.fault = ""
        self.handed: set[int] = set()
        self.taking = self.closed = self._undisturbed = False
        self._ram: dict[int, Stored] = {}
        self._gone_meanwhile: set[int] = set()
        self._rewritten: set[int] = set()
        self._look_until_s = 0.0
        self._updates_before: dict[int, int] = {}
        self._cursor: dict[Stream, int] = {}
        self._excepted: frozenset[str] = frozenset()

    def take(self, limit: int, rest: int, except_topics: Collection[str]) -> list[Message]:
        """Return up to `limit` messages, of which at most `rest` are a backlog, or updates.

        After a while of passing over excepted rows it returns what it has, and asks for another call.
        """
        self._look_until_s = time.monotonic() + _LOOK_S
        with self._changed:
            if not self._excepted <= set(except_topics):
                self._cursor.clear()
            self._excepted = frozenset(except_topics)
            self._gone_meanwhile.clear()
            self.taking = self._undisturbed = True
        try:
            taken = self._take_rows(limit, rest)
            if not taken and limit and rest:
                self._miss_rows()
        finally:
            with self._changed:
                for key in self._rewritten:
                    self._rewind(key)
                self._rewritten.clear()
                self.taking = False
                self._changed.notify_all()
        return taken + self._take_ram(limit - len(taken))

    def _take_rows(self, limit: int, rest: int) -> list[Message]:
        taken: list[Message] = []
        for stream in _FIRST:
            taken += self._drain(stream, limit - len(taken))
        rest = min(rest, limit - len(taken))
        for stream in _REST:
            more = self._drain(stream, rest)
            rest -= len(more)
            taken += more
        return taken

    def _miss_rows(self) -> None:
        """Report damage when all rows were looked through, and some that should be there are not."""
        with self._changed:
            elsewhere = self.handed or len(self._pending) or self._ledger.growing() or self._excepted
            if self._undisturbed and not elsewhere and self._ledger.queued() > len(self._ram):
                self._on_damage(sqlite3.DatabaseError("messages are missing"))

    def _drain(self, stream: Stream, limit: int) -> list[Message]:
        """Hand out rows of `stream` until `limit` or its end."""
        hand_out = self._hand_out_after_updates if stream == (Lane.P0, True) else self._hand_out
        taken: list[Message] = []
        at_once = limit
        while len(taken) < limit and (page := self._read(stream, at_once)):
            taken += hand_out(stream, page, limit - len(taken))
            at_once = max(limit, _PAGE)
            if time.monotonic() > self._look_until_s and len(taken) < limit:
                self._undisturbed = False
                self._on_more()
                break
        return taken

    def _read(self, stream: Stream, limit: int, end: int | None = None) -> list[Stored]:
        """Return the next rows of `stream`; none while the file is being repaired or can't be read."""
        lane, current = stream
        with self._changed:
            if self.closed or len(self._pending.gone) > _MOST_GONE:
                self._undisturbed = False
                return []
            now = make_key(lane, self._ledger.epoch, 0)
            first, last = (now, make_key(lane, self._ledger.epoch + 1, 0)) if current else (0, now)
            first = max(first, self._cursor.get(stream, make_key(lane, 0, 0)))
        try:
            rows = self._journal.read(first, end or last, limit)
        except FILE_FAULTS as fault:
            self._undisturbed = False
            self._met(fault)
            return []
        self.fault = ""
        return rows

    def _met(self, fault: Exception) -> None:
        if is_damage(fault):
            self._on_damage(fault)
        elif not self.fault:
            self.fault = one_line(fault)
            log.error("outbox: can't be read (%s): tried again", self.fault)

    def _hand_out_after_updates(self, stream: Stream, page: list[Stored], limit: int) -> list[Message]:
        """Hand out rows of P0, each after the updates that were put before it."""
        taken: list[Message] = []
        for row in page:
            if row.topic not in self._excepted:
                taken += self._hand_out_updates(row.key, limit - len(taken))
            if len(taken) == limit or self.closed:
                break
            taken += self._hand_out(stream, [row], 1)
        return taken

    def _hand_out_updates(self, before: int, limit: int) -> list[Message]:
        """Hand out the updates put before the P0 message `before`, unless they are a backlog."""
        stream = Lane.P1, True
        last = self._updates_before.get(before, 0)
        end = make_key(Lane.P1, split_key(before)[1], last + 1)
        if not last or self._cursor.get(stream, 0) >= end:
            return []
        page = self._read(stream, _LIVE + 1, end)
        return [] if len(page) > _LIVE else self._hand_out(stream, page, limit)

    def _hand_out(self, stream: Stream, page: list[Stored], limit: int) -> list[Message]:
        """Mark up to `limit` rows of `page` as handed out, passing over those that went or grow."""
        taken: list[Message] = []
        with self._changed:
            skip = self.handed, self._pending.gone, self._gone_meanwhile, self._ledger.growing()
            for row in page:
                if len(taken) == limit or self.closed:
                    break
                if not row.intact:
                    self._on_damage(sqlite3.DatabaseError("a message does not fit its checksum"))
                    break
                self._cursor[stream] = row.key + 1
                if row.topic in self._excepted or any(row.key in keys for keys in skip):
                    continue
                self.handed.add(row.key)
                taken.append(self._message(row))
            if stream[0] is Lane.GAP:
                self._ledger.close_gaps(self.handed)
        return taken

    def _message(self, row: Stored) -> Message:
        offset_s = row.offset_s if self._ledger.of_this_boot(row.key) else None
        return Message(row.key, row.topic, row.payload, retain=row.retain, offset_s=offset_s)

    def _take_ram(self, limit: int) -> list[Message]:
        with self._changed:
            rows = [
                row
                for row in self._ram.values()
                if row.key not in self.handed and row.topic not in self._excepted
            ][:limit]
            self.handed.update(row.key for row in rows)
        return [Message(row.key, row.topic, row.payload, qos=0) for row in rows]

    # -- under the lock --

    def keep(self, row: Stored, most: int) -> list[int]:
        """Keep `row` in memory only; return the keys of the oldest that are over `most`: they are forgotten."""
        self._ram[row.key] = row
        spare = (key for key in self._ram if key not in self.handed)
        over = [key for key, _ in zip(spare, range(len(self._ram) - most), strict=False)]
        for key in over:
            del self._ram[key]
        return over

    def remember_updates(self, key: int) -> None:
        """Note how many updates were put before the P0 message `key`; the oldest notes are forgotten."""
        self._updates_before[key] = self._ledger.last(Lane.P1)
        if len(self._updates_before) > _REMEMBERED:
            del self._updates_before[next(iter(self._updates_before))]

    def forget(self, key: int) -> bool:
        """Never hand `key` out again; return whether it has a row on disk."""
        self.handed.discard(key)
        self._updates_before.pop(key, None)
        return self._ram.pop(key, None) is None

    def release(self, keys: Iterable[int]) -> None:
        """Take these back: they are handed out again."""
        for key in self.handed.intersection(keys):
            self.handed.discard(key)
            self._rewind(key)

    def committed(self, deleted: Collection[int], rewritten: Collection[int]) -> None:
        """Note what a commit has changed under a `take` that may be going on."""
        self._undisturbed = False
        if self.taking:
            self._gone_meanwhile.update(deleted, rewritten)
            self._rewritten.update(rewritten)
        for key in rewritten:
            self._rewind(key)

    def repaired(self, present: Collection[int]) -> None:
        """Begin to read anew; of what is under way only the keys `present` are still there."""
        self.handed = {key for key in self.handed if key in present or key in self._ram}
        self._cursor.clear()
        self._gone_meanwhile.clear()
        self._rewritten.clear()

    def _rewind(self, key: int) -> None:
        lane, epoch, _ = split_key(key)
        stream = Lane(lane), epoch == self._ledger.epoch
        if stream in self._cursor:
            self._cursor[stream] = min(self._cursor[stream], key)
