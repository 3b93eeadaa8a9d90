"""What lies in the file of the outbox: its tables, the keys of its rows, their checksums."""

from __future__ import annotations

import sqlite3
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

SEQ_BITS, EPOCH_BITS = 38, 22
"""A key is lane | epoch number | seq, so that the order of keys is lane by lane the order of sending."""
LANES = 3
"""How many lanes are kept on disk: gaps, P0, P1."""
PAGE_BYTES = 512
"""The smallest: pages of 4096 bytes write twice as much to the disk (`python -m tests.bench device_writes`)."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
  key INTEGER PRIMARY KEY, topic TEXT NOT NULL, retain INTEGER NOT NULL, payload BLOB NOT NULL,
  offset_s REAL, crc INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS epoch (
  number INTEGER PRIMARY KEY, name TEXT NOT NULL, boot_id TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS account (
  epoch INTEGER NOT NULL, lane INTEGER NOT NULL, allocated INTEGER NOT NULL, confirmed INTEGER NOT NULL,
  evicted INTEGER NOT NULL, corrupt INTEGER NOT NULL, rejected INTEGER NOT NULL, crc INTEGER NOT NULL,
  PRIMARY KEY (epoch, lane)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS note (
  key TEXT PRIMARY KEY, value BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
"""
ROW = "key, cast(topic AS BLOB), retain, cast(payload AS BLOB), offset_s, crc"
"""The columns that `Stored.of` takes; text is read as bytes, for it may be damaged."""
_BOOKS = {
    "epoch": "number, cast(name AS BLOB), cast(boot_id AS BLOB)",
    "account": "epoch, lane, allocated, confirmed, evicted, corrupt, rejected",
    "note": "cast(key AS BLOB), cast(value AS BLOB)",
}
FILE_FAULTS = (sqlite3.Error, UnicodeDecodeError)
"""What SQLite raises; the second where a message of its own holds bytes of a damaged file."""
_DAMAGE = ("no such table", "no such column", "no column named", "unsupported file format")

Place = tuple[int, int]
"""Epoch number and lane."""


def make_key(lane: int, epoch: int, seq: int) -> int:
    """Return the key of number `seq` of `lane` in the epoch numbered `epoch`."""
    return lane << (EPOCH_BITS + SEQ_BITS) | epoch << SEQ_BITS | seq


def split_key(key: int) -> tuple[int, int, int]:
    """Return lane, epoch number and seq of `key`."""
    lane, rest = divmod(key, 1 << (EPOCH_BITS + SEQ_BITS))
    return lane, *divmod(rest, 1 << SEQ_BITS)


def place_of(key: int) -> Place:
    """Return epoch number and lane of `key`."""
    lane, epoch, _ = split_key(key)
    return epoch, lane


def crc_of(*columns: object) -> int:
    """Return the CRC-32 of the columns of a row, whatever damage has made of them."""
    crc = 0
    for column in columns:
        crc = zlib.crc32(column if isinstance(column, bytes) else repr(column).encode(), crc)
    return crc


@dataclass(frozen=True, slots=True)
class Stored:
    """A row as it lies in the file; `intact` is False when its CRC does not fit."""

    key: int
    topic: str
    retain: bool
    payload: bytes
    offset_s: float | None = None
    intact: bool = True

    @staticmethod
    def of(
        key: int, topic: bytes | None, retain: object, payload: bytes | None, offset_s: object, crc: object
    ) -> Stored:
        """Return the row; a damaged one may hold anything, so that nothing is taken for what it should be."""
        if crc != crc_of(key, topic, retain, payload, offset_s):
            return Stored(key, "", retain=False, payload=b"", intact=False)
        return Stored(
            key,
            (topic or b"").decode(),
            bool(retain),
            payload or b"",
            offset_s if isinstance(offset_s, float) else None,
        )


@dataclass(frozen=True, slots=True)
class Epoch:
    """A run of numbers: its random name, and the boot in which it was begun."""

    name: str
    boot_id: str


@dataclass(slots=True)
class Account:
    """What became of the messages of one lane; `rejected` ones are a part of the evicted."""

    allocated: int = 0
    confirmed: int = 0
    evicted: int = 0
    corrupt: int = 0
    rejected: int = 0

    @property
    def queued(self) -> int:
        """Those whose end is not known yet."""
        return self.allocated - self.confirmed - self.evicted - self.corrupt


@dataclass(slots=True)
class Books:
    """What the file says besides its rows. `torn`: the tables of which something can't be read."""

    epochs: dict[int, Epoch] = field(default_factory=dict)
    accounts: dict[Place, Account] = field(default_factory=dict)
    notes: dict[str, bytes] = field(default_factory=dict)
    torn: set[str] = field(default_factory=set)

    @property
    def whole(self) -> bool:
        """Whether all of it can be read."""
        return not self.torn


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction changes. `ended`: epochs of which nothing is left."""

    rows: Sequence[Stored] = ()
    deleted: Collection[int] = ()
    notes: Mapping[str, bytes | None] = field(default_factory=dict)
    epochs: Mapping[int, Epoch] = field(default_factory=dict)
    accounts: Mapping[Place, Account] = field(default_factory=dict)
    ended: Collection[int] = ()

    def __bool__(self) -> bool:
        return any((self.rows, self.deleted, self.notes, self.epochs, self.accounts, self.ended))


def write(connection: sqlite3.Connection, batch: Batch) -> None:
    """Do what `batch` says, deletions first: they make room. Raises sqlite3.Error."""
    many = connection.executemany
    many("DELETE FROM message WHERE key = ?", ((key,) for key in sorted(batch.deleted)))
    insert(connection, batch.rows)
    forgotten = ((key,) for key, value in batch.notes.items() if value is None)
    many("DELETE FROM note WHERE key = ?", forgotten)
    notes = ((k, v, crc_of(k.encode(), v)) for k, v in batch.notes.items() if v is not None)
    many("INSERT OR REPLACE INTO note VALUES (?, ?, ?)", notes)
    epochs = (
        (number, e.name, e.boot_id, crc_of(number, e.name.encode(), e.boot_id.encode()))
        for number, e in batch.epochs.items()
    )
    many("INSERT OR REPLACE INTO epoch VALUES (?, ?, ?, ?)", epochs)
    accounts = (
        (epoch, int(lane), a.allocated, a.confirmed, a.evicted, a.corrupt, a.rejected)
        for (epoch, lane), a in batch.accounts.items()
    )
    many(
        "INSERT OR REPLACE INTO account VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        ((*row, crc_of(*row)) for row in accounts),
    )
    for number in batch.ended:
        connection.execute("DELETE FROM epoch WHERE number = ?", (number,))
        connection.execute("DELETE FROM account WHERE epoch = ?", (number,))


def insert(connection: sqlite3.Connection, rows: Iterable[Stored]) -> None:
    """Insert or replace `rows`. Raises sqlite3.Error."""
    columns = ((r.key, r.topic.encode(), int(r.retain), r.payload, _stored(r.offset_s)) for r in rows)
    connection.executemany(
        "INSERT OR REPLACE INTO message VALUES (?, cast(? AS TEXT), ?, ?, ?, ?)",
        ((*row, crc_of(*row)) for row in columns),
    )


def _stored(value: float | None) -> float | None:
    """Return the number as SQLite gives it back: it knows no -0.0."""
    return None if value is None else value + 0.0


def read_books(connection: sqlite3.Connection) -> Books:
    """Return what can be read and has the right CRC. Raises sqlite3.Error when the disk does not answer."""
    books = Books()
    keep: dict[str, Callable[..., None]] = {
        "epoch": lambda number, name, boot: books.epochs.update(
            {number: Epoch(name.decode(), boot.decode())}
        ),
        "account": lambda epoch, lane, *counts: books.accounts.update({(epoch, lane): Account(*counts)}),
        "note": lambda key, value: books.notes.update({key.decode(): value}),
    }
    for table, columns in _BOOKS.items():
        try:
            for *values, crc in connection.execute(f"SELECT {columns}, crc FROM {table}"):  # noqa: S608
                if crc == crc_of(*values):
                    keep[table](*values)
                else:
                    books.torn.add(table)
        except FILE_FAULTS as fault:  # noqa: PERF203 - what other tables hold is still good
            if not is_damage(fault):
                raise
            books.torn.add(table)
    return books


def one_line(fault: BaseException) -> str:
    """Return what `fault` says, in one short line: of a damaged file it may quote anything."""
    return " ".join((str(fault) or type(fault).__name__).split())[:120]


def is_damage(fault: BaseException) -> bool:
    """Return whether `fault` says that the file is not what it should be, and not that the disk refuses."""
    if isinstance(fault, sqlite3.OperationalError):
        return any(text in str(fault) for text in _DAMAGE)
    if isinstance(fault, UnicodeDecodeError):
        return True
    return isinstance(fault, sqlite3.DatabaseError) and not isinstance(fault, sqlite3.ProgrammingError)
