"""What can still be read of a damaged or older outbox file, carried over into a new one."""

from __future__ import annotations

import contextlib
import heapq
import sqlite3
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.outbox.rawpages import stray_rows
from agent.outbox.source import readable
from agent.outbox.stored import (
    FILE_FAULTS,
    LANES,
    ROW,
    Account,
    Books,
    Epoch,
    Place,
    Stored,
    insert,
    is_damage,
    make_key,
    place_of,
    split_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

_BLOCK = 256
_OLD_ROW = "key, cast(topic AS BLOB), retain, cast(payload AS BLOB), NULL, crc"
_END = make_key(LANES, 0, 0)
_NO_ROW = Stored(_END, "", retain=False, payload=b"")


@dataclass(slots=True)
class Found:
    """What was carried over: the books, how many rows of each place, which of the keys that were asked about.

    `bad` are the seqs between which rows with a wrong CRC lie, and their number: by their neighbours, for the
    key of such a row may be wrong too. `unknown` are the places whose account is not the one of the file: up to
    so many of their numbers may be lost. `damaged` is False for a file of the first version that was whole.
    """

    books: Books = field(default_factory=Books)
    rows: Counter[Place] = field(default_factory=Counter)
    last: dict[Place, int] = field(default_factory=dict)
    bad: dict[Place, tuple[int, int, int]] = field(default_factory=dict)
    unknown: dict[Place, int] = field(default_factory=dict)
    present: set[int] = field(default_factory=set)
    damaged: bool = True


def carry_over(
    path: Path,
    target: sqlite3.Connection,
    *,
    skip: Collection[int],
    ask: Collection[int],
    missing: Callable[[Found], Counter[Place]],
) -> Found:
    """Insert the good rows of the file at `path` into `target`, but for the keys in `skip`.

    Those that the tree leads to; then those that lie in pages it does not lead to: what is still `missing` by
    the accounts, or all where the account can't be read. Raises sqlite3.Error and OSError when a disk does not
    answer or `target` is full.
    """
    found = Found()
    with contextlib.closing(readable(path)) as source:
        found.books, old = source.books, source.old
        if source.connection is not None:
            rows = _rows(source.connection, old=old, found=found)
            _keep(target, (row for row in rows if row.key not in skip), ask, found)
        found.damaged = not (old and found.books.whole)
    if path.is_file() and found.damaged and not old:
        known = found.books.accounts.keys() if "account" in found.books.torn else None
        _keep(target, _strays(path, target, skip, missing(found), known), ask, found)
    _complete(found.books, found)
    return found


def _keep(target: sqlite3.Connection, rows: Iterable[Stored], ask: Collection[int], found: Found) -> None:
    block: list[Stored] = []
    for row in rows:
        if row.key in ask:
            found.present.add(row.key)
        place = place_of(row.key)
        found.rows[place] += 1
        found.last[place] = max(found.last.get(place, 0), split_key(row.key)[2])
        block.append(row)
        if len(block) == _BLOCK:
            insert(target, block)
            block.clear()
    insert(target, block)


def _strays(
    path: Path,
    target: sqlite3.Connection,
    skip: Collection[int],
    missing: Counter[Place],
    known: Collection[Place] | None,
) -> Iterator[Stored]:
    """Yield rows that the tree does not lead to: the last `missing` ones of each place, all of those not `known`.

    The last, for pages that are used no more may hold older rows, which were confirmed long ago.
    """
    if known is None and not any(missing.values()):
        return
    keys: defaultdict[Place, set[int]] = defaultdict(set)
    for row in stray_rows(path):
        place = place_of(row.key)
        wanted = missing[place] > 0 or (known is not None and place not in known)
        if wanted and row.key not in skip and not _holds(target, row.key):
            keys[place].add(row.key)
    chosen = {
        key for place, some in keys.items() for key in heapq.nlargest(missing[place] or len(some), some)
    }
    for row in stray_rows(path):
        if row.key in chosen:
            chosen.discard(row.key)
            yield row


def _holds(connection: sqlite3.Connection, key: int) -> bool:
    return connection.execute("SELECT 1 FROM message WHERE key = ?", (key,)).fetchone() is not None


def _rows(source: sqlite3.Connection, *, old: bool, found: Found) -> Iterator[Stored]:
    """Yield the intact rows in the order of keys; note between which of them there are others."""
    before, bad = 0, 0
    for row in _all_rows(source, old=old, found=found):
        if not row.intact:
            bad += 1
            found.books.torn.add("message")
            continue
        if bad and place_of(before) == place_of(row.key):
            _note_bad(found, before, row.key, bad)
        before, bad = row.key, 0
        yield row


def _all_rows(source: sqlite3.Connection, *, old: bool, found: Found) -> Iterator[Stored]:
    """Yield the rows, those with a wrong CRC too, past pages that can't be read."""
    query = f"SELECT {_OLD_ROW if old else ROW} FROM message WHERE key >= ? ORDER BY key"  # noqa: S608
    row_of = _old_row if old else Stored.of

    def intact(at: int) -> Stored | None:
        """Return the row at `at` or the next behind; _NO_ROW when there is none, None for a broken one."""
        try:
            columns = source.execute(query + " LIMIT 1", (at,)).fetchone()
        except FILE_FAULTS as fault:
            if not is_damage(fault):
                raise
            return None
        row = _NO_ROW if columns is None else row_of(*columns)
        return row if row.intact and row.key >= at else None

    key = make_key(0, 1, 1)
    while key < _END:
        try:
            for columns in source.execute(query, (key,)):
                row = row_of(*columns)
                if row.intact:
                    if row.key < key:
                        raise sqlite3.DatabaseError("keys out of order")
                    key = row.key + 1
                yield row
        except FILE_FAULTS as fault:  # noqa: PERF203 - reading goes on behind the damage
            if not is_damage(fault):
                raise
            found.books.torn.add("message")
            row = _next_intact(intact, key)
            if row.key < _END:
                yield row
            key = row.key + 1
        else:
            return


def _next_intact(intact: Callable[[int], Stored | None], key: int) -> Stored:
    """Return the first row that reading can go on from: by steps that double, then by halves.

    Begins with `key` itself: sqlite3 reads ahead, and when that fails it keeps back a good row.
    """
    row: Stored | None = None
    low, high, step = key - 1, key, 1
    while high < _END and (row := intact(high)) is None:
        low, high, step = high, min(high + step, _END), step * 2
    while high - low > 1:
        middle = (low + high) // 2
        if (nearer := intact(middle)) is None:
            low = middle
        else:
            high, row = middle, nearer
    return row or _NO_ROW


def _old_row(key: int, topic: Any, retain: Any, payload: Any, _: None, crc: Any) -> Stored:
    topic, payload = topic or b"", payload or b""
    good = zlib.crc32(payload, zlib.crc32(topic, zlib.crc32(str(key).encode())))
    if crc != good:
        return Stored(key, "", retain=False, payload=b"", intact=False)
    return Stored(key, topic.decode(), bool(retain), payload)


def _note_bad(found: Found, before: int, after: int, count: int) -> None:
    place = place_of(before)
    first, last = split_key(before)[2] + 1, split_key(after)[2] - 1
    low, _, others = found.bad.get(place, (first, 0, 0))
    found.bad[place] = low, last, others + count


def _complete(books: Books, found: Found) -> None:
    """Open the epochs and accounts that rows belong to and that are not told: what else they had is unknown."""
    for place, rows in found.rows.items():
        account = books.accounts.get(place, Account())
        if account.queued >= rows and account.allocated >= found.last[place]:
            continue
        last = max(found.last[place], account.allocated, rows)
        if last > account.allocated:
            confirmed = min(account.confirmed, last - rows)
            found.unknown[place] = last - rows - confirmed
        else:
            confirmed = last - rows
        books.accounts[place] = Account(last, confirmed, corrupt=last - rows - confirmed)
    for epoch, _ in books.accounts:
        books.epochs.setdefault(epoch, Epoch(f"unknown-{epoch}", ""))
    if "account" in books.torn:
        untold = {(epoch, lane) for epoch in books.epochs for lane in range(1, LANES)} - books.accounts.keys()
        found.unknown |= dict.fromkeys(untold, 0)
