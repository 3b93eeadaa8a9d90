"""What can still be read of a damaged or older outbox file, carried over into a new one."""

from __future__ import annotations

import contextlib
import heapq
import shutil
import sqlite3
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.outbox.rawpages import stray_rows
from agent.outbox.replacing import PARTS, beside, patched, remove
from agent.outbox.stored import (
    FILE_FAULTS,
    LANES,
    PAGE_BYTES,
    ROW,
    SCHEMA,
    Account,
    Books,
    Epoch,
    Place,
    Stored,
    insert,
    is_damage,
    make_key,
    place_of,
    read_books,
    split_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

_BLOCK = 256
_OLD_ROW = "key, cast(topic AS BLOB), retain, cast(payload AS BLOB), NULL, crc"
_HEADER_PAGES = slice(28, 32)


@dataclass(slots=True)
class Found:
    """What was carried over: the books, how many rows of each place, which of the keys that were asked about.

    `bad` are the first and last seq of rows that are there with a wrong CRC, and their number. `damaged` is
    False for a file of the first version that was whole.
    """

    books: Books = field(default_factory=Books)
    rows: Counter[Place] = field(default_factory=Counter)
    last: dict[Place, int] = field(default_factory=dict)
    bad: dict[Place, tuple[int, int, int]] = field(default_factory=dict)
    present: set[int] = field(default_factory=set)
    damaged: bool = True


def is_old(connection: sqlite3.Connection) -> bool:
    """Return whether this is a file of the first version. Raises sqlite3.Error."""
    query = "SELECT 1 FROM sqlite_master WHERE name = 'last_seq'"
    return connection.execute(query).fetchone() is not None


def carry_over(
    path: Path,
    target: sqlite3.Connection,
    *,
    skip: Collection[int],
    ask: Collection[int],
    missing: Callable[[Found], Counter[Place]],
) -> Found:
    """Insert the good rows of the file at `path` into `target`, but for the keys in `skip`.

    Those that the tree leads to; then, of what is still `missing` by the accounts, those that lie in pages it
    does not lead to. Raises sqlite3.Error and OSError when a disk does not answer or `target` is full.
    """
    found = Found()
    with contextlib.closing(_readable(path)) as source:
        found.books, old = source.books, source.old
        if source.connection is not None:
            rows = _rows(source.connection, old=old, found=found)
            _keep(target, (row for row in rows if row.key not in skip), ask, found)
        found.damaged = not (old and found.books.whole and not found.bad)
    if path.is_file() and found.damaged and not old:
        _keep(target, _strays(path, target, skip, missing(found)), ask, found)
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
    path: Path, target: sqlite3.Connection, skip: Collection[int], missing: Counter[Place]
) -> Iterator[Stored]:
    """Yield the last `missing` rows of each place that the tree does not lead to.

    The last, for pages that are used no more may hold older rows, which were confirmed long ago.
    """
    if not any(missing.values()):
        return
    keys: dict[Place, set[int]] = {place: set() for place, count in missing.items() if count > 0}
    for row in stray_rows(path):
        if (place := place_of(row.key)) in keys and row.key not in skip and not _holds(target, row.key):
            keys[place].add(row.key)
    chosen = {key for place, some in keys.items() for key in heapq.nlargest(missing[place], some)}
    for row in stray_rows(path):
        if row.key in chosen:
            chosen.discard(row.key)
            yield row


def _holds(connection: sqlite3.Connection, key: int) -> bool:
    return connection.execute("SELECT 1 FROM message WHERE key = ?", (key,)).fetchone() is not None


@dataclass(slots=True)
class _Source:
    """A file that is open for reading, or nothing that can be read."""

    connection: sqlite3.Connection | None = None
    books: Books = field(default_factory=lambda: Books(whole=False))
    old: bool = False
    copy: Path | None = None

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        if self.copy is not None:
            remove(self.copy)


def _readable(path: Path) -> _Source:
    """Open the file; where its first page is broken, a copy of it with the first page of a good one."""
    if not path.is_file():
        return _Source()
    try:
        return _opened(path, None)
    except FILE_FAULTS as fault:
        if not is_damage(fault):
            raise
    copy = patched(path)
    _patch(path, copy)
    try:
        return _opened(copy, copy)
    except FILE_FAULTS as fault:
        remove(copy)
        if not is_damage(fault):
            raise
        return _Source()


def _opened(path: Path, copy: Path | None) -> _Source:
    connection = sqlite3.connect(path, timeout=5, isolation_level=None)
    try:
        old = is_old(connection)
        connection.execute(f"SELECT {_OLD_ROW if old else ROW} FROM message LIMIT 0")  # noqa: S608
        books = _old_books(connection) if old else read_books(connection)
    except FILE_FAULTS:
        connection.close()
        raise
    return _Source(connection, books, old, copy)


def _patch(path: Path, copy: Path) -> None:
    """Copy the file with a good first page: that is the same in all of them, for all have the same tables."""
    for part in PARTS[:2]:
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(beside(path, part), beside(copy, part))
    template = copy.with_name(copy.name + ".template")
    remove(template)
    with contextlib.closing(sqlite3.connect(template, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.executescript(SCHEMA)
    page = bytearray(template.read_bytes()[:PAGE_BYTES])
    remove(template)
    pages = copy.stat().st_size // PAGE_BYTES
    page[_HEADER_PAGES] = max(pages, 1).to_bytes(4, "big")
    with copy.open("r+b") as file:
        file.write(page)


def _old_books(connection: sqlite3.Connection) -> Books:
    """Return the books of a file of the first version: names and last numbers."""
    books = Books()
    try:
        for number, name in connection.execute("SELECT number, cast(name AS BLOB) FROM epoch"):
            books.epochs[int(number)] = Epoch(name.decode(), "")
        for epoch, lane, seq in connection.execute("SELECT epoch, lane, seq FROM last_seq"):
            books.accounts[int(epoch), int(lane)] = Account(int(seq), int(seq))
    except (sqlite3.Error, ValueError, TypeError, AttributeError) as fault:
        if isinstance(fault, FILE_FAULTS) and not is_damage(fault):
            raise
        books.whole = False
    return books


def _rows(source: sqlite3.Connection, *, old: bool, found: Found) -> Iterator[Stored]:
    """Yield the intact rows in the order of keys, past pages that can't be read."""
    first, end = make_key(0, 1, 1), make_key(LANES, 0, 0)
    query = (
        f"SELECT {_OLD_ROW if old else ROW} FROM message"  # noqa: S608
        " WHERE key >= ? AND key < ? ORDER BY key"
    )
    key = first
    while key < end:
        try:
            for columns in source.execute(query, (key, end)):
                if columns[0] < key:
                    raise sqlite3.DatabaseError("keys out of order")
                key = columns[0] + 1
                row = _old_row(*columns) if old else Stored.of(*columns)
                if row.intact:
                    yield row
                else:
                    _note_bad(found, row.key)
        except FILE_FAULTS as fault:  # noqa: PERF203 - reading goes on behind the damage
            if not is_damage(fault):
                raise
            found.books.whole = False
            key = _next_readable(source, query, key, end)
        else:
            return


def _old_row(key: int, topic: Any, retain: Any, payload: Any, _: None, crc: Any) -> Stored:
    topic, payload = topic or b"", payload or b""
    good = zlib.crc32(payload, zlib.crc32(topic, zlib.crc32(str(key).encode())))
    if crc != good:
        return Stored(key, "", retain=False, payload=b"", intact=False)
    return Stored(key, topic.decode(), bool(retain), payload)


def _note_bad(found: Found, key: int) -> None:
    place, seq = place_of(key), split_key(key)[2]
    low, high, count = found.bad.get(place, (seq, seq, 0))
    found.bad[place] = min(low, seq), max(high, seq), count + 1


def _next_readable(source: sqlite3.Connection, query: str, key: int, end: int) -> int:
    """Return the next key that reading can go on from: by steps that double, then by halves."""

    def readable(at: int) -> bool:
        try:
            row = source.execute(query + " LIMIT 1", (at, end)).fetchone()
        except FILE_FAULTS as fault:
            if not is_damage(fault):
                raise
            return False
        return row is None or bool(row[0] >= at)

    step = 1
    while key + step < end and not readable(key + step):
        step *= 2
    low, high = key + step // 2, min(key + step, end)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if readable(middle) else (middle, high)
    return high


def _complete(books: Books, found: Found) -> None:
    """Open the epochs and accounts that rows belong to and that are not told: what else they had is unknown."""
    for (epoch, lane), rows in found.rows.items():
        books.epochs.setdefault(epoch, Epoch(f"unknown-{epoch}", ""))
        last = found.last[epoch, lane]
        account = books.accounts.get((epoch, lane))
        if account is None or account.queued < rows:
            last = max(last, account.allocated if account is not None else 0, rows)
            books.accounts[epoch, lane] = Account(allocated=last, confirmed=last - rows)
    for epoch, _ in books.accounts:
        books.epochs.setdefault(epoch, Epoch(f"unknown-{epoch}", ""))
