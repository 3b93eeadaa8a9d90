"""The file below the outbox: rows by key in SQLite, one transaction a commit; damage is set aside."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import time
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from agent.errors import CannotCreate, TryAgain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

SEQ_BITS, EPOCH_BITS = 38, 22
"""A key is lane | epoch number | seq, so that the order of keys is the order of sending."""
_PAGE_BYTES = 4096
_SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
  key INTEGER PRIMARY KEY, topic TEXT NOT NULL, retain INTEGER NOT NULL, payload BLOB NOT NULL,
  crc INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS epoch (number INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS last_seq (
  epoch INTEGER NOT NULL, lane INTEGER NOT NULL, seq INTEGER NOT NULL,
  PRIMARY KEY (epoch, lane)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """A row as it lies in the file; `intact` is False when its CRC does not fit."""

    key: int
    topic: str
    retain: bool
    payload: bytes
    intact: bool = True


def make_key(lane: int, epoch: int, seq: int) -> int:
    """Return the key of number `seq` of `lane` in the process start `epoch`."""
    return lane << (EPOCH_BITS + SEQ_BITS) | epoch << SEQ_BITS | seq


def split_key(key: int) -> tuple[int, int, int]:
    """Return lane, epoch number and seq of `key`."""
    lane, rest = divmod(key, 1 << (EPOCH_BITS + SEQ_BITS))
    return lane, *divmod(rest, 1 << SEQ_BITS)


class Journal:
    """Rows by key. `read` and `keys` belong to one thread, the rest to another: each has its own connection.

    A file that SQLite can't read is renamed to *.damaged-<time> and a new one begun: see `damaged`.
    Raises CannotCreate when there can be no file, TryAgain when another process has it.
    """

    def __init__(self, path: Path, *, epoch_name: str, max_bytes: int) -> None:
        self._path = path
        self._max_pages = max_bytes // _PAGE_BYTES
        self.damaged: Path | None = None
        self._lock_file = _lock(path)
        try:
            self._writer = self._open_or_set_aside()
            self._reader = _connect(path, self._max_pages)
            self.epochs: dict[int, str] = dict(self._writer.execute("SELECT number, name FROM epoch"))
            self.epoch = max(self.epochs, default=0) + 1
            self.previous_last_seq = self._last_seq(self.epoch - 1)
            self._begin_epoch(epoch_name)
        except (sqlite3.Error, OSError) as fault:
            self._lock_file.close()
            raise _cannot(path, fault) from fault

    def _open_or_set_aside(self) -> sqlite3.Connection:
        try:
            return _open(self._path, self._max_pages)
        except sqlite3.DatabaseError as fault:
            if isinstance(fault, sqlite3.OperationalError) or not self._path.is_file():
                raise
            self.damaged = _set_aside(self._path)
            log.warning(
                "outbox %s is damaged (%s): kept as %s, a new one begun", self._path, fault, self.damaged
            )
            return _open(self._path, self._max_pages)

    def _begin_epoch(self, name: str) -> None:
        first = make_key(0, 1, 0)
        with _transaction(self._writer):
            alive = {split_key(key)[1] for (key,) in self._epoch_edges(first)} | {self.epoch - 1}
            gone = [(number,) for number in self.epochs if number not in alive]
            self._writer.executemany("DELETE FROM epoch WHERE number = ?", gone)
            self._writer.executemany("DELETE FROM last_seq WHERE epoch = ?", gone)
            self._writer.execute("INSERT INTO epoch VALUES (?, ?)", (self.epoch, name))
        for (number,) in gone:
            del self.epochs[number]
        self.epochs[self.epoch] = name

    def _epoch_edges(self, first: int) -> Iterator[tuple[int]]:
        """Yield one key of each (lane, epoch) that has rows, by skipping through the index."""
        step = 1 << SEQ_BITS
        key = first
        while row := self._writer.execute("SELECT min(key) FROM message WHERE key >= ?", (key,)).fetchone():
            if row[0] is None:
                return
            yield row
            key = (row[0] // step + 1) * step

    def _last_seq(self, epoch: int) -> dict[int, int]:
        """Return the last committed number of each lane of `epoch`, sent or not."""
        last: dict[int, int] = dict(
            self._writer.execute("SELECT lane, seq FROM last_seq WHERE epoch = ?", (epoch,))
        )
        for lane in range(8):
            low, high = make_key(lane, epoch, 0), make_key(lane, epoch + 1, 0)
            query = "SELECT max(key) FROM message WHERE key >= ? AND key < ?"
            (key,) = self._writer.execute(query, (low, high)).fetchone()
            if key is not None:
                last[lane] = max(last.get(lane, 0), split_key(key)[2])
        return last

    def commit(self, rows: Sequence[Stored], deleted: Iterable[int], last_seq: dict[int, int]) -> None:
        """Remove the keys `deleted`, insert or replace `rows`, note the `last_seq` of this epoch's lanes.

        All of it is on disk on return. Raises sqlite3.Error; nothing has changed then.
        """
        with _transaction(self._writer):
            self._writer.executemany("DELETE FROM message WHERE key = ?", ((key,) for key in deleted))
            self._writer.executemany(
                "INSERT OR REPLACE INTO message VALUES (?, ?, ?, ?, ?)",
                (
                    (r.key, r.topic, r.retain, r.payload, _crc(r.key, r.topic.encode(), r.payload))
                    for r in rows
                ),
            )
            self._writer.executemany(
                "INSERT OR REPLACE INTO last_seq VALUES (?, ?, ?)",
                [(self.epoch, lane, seq) for lane, seq in last_seq.items()],
            )

    def read(self, first: int, end: int, limit: int) -> list[Stored]:
        """Return up to `limit` committed rows with first <= key < end, ascending. Raises sqlite3.Error."""
        query = (
            "SELECT key, cast(topic AS BLOB), retain, cast(payload AS BLOB), crc FROM message"
            " WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
        )
        return [_stored(*row) for row in self._reader.execute(query, (first, end, limit))]

    def keys(self, limit: int) -> list[int]:
        """Return the first `limit` committed keys, for the reading thread."""
        query = "SELECT key FROM message ORDER BY key LIMIT ?"
        return [key for (key,) in self._reader.execute(query, (limit,))]

    def sizes(self, first: int, end: int, limit: int) -> list[tuple[int, int]]:
        """Return key and bytes of the first `limit` rows with first <= key < end."""
        query = (
            "SELECT key, length(payload) + 64 FROM message WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
        )
        return list(self._writer.execute(query, (first, end, limit)))

    def used_bytes(self) -> int:
        """Return the size of the pages in use."""
        (pages,) = self._writer.execute("PRAGMA page_count").fetchone()
        (free,) = self._writer.execute("PRAGMA freelist_count").fetchone()
        return int(pages - free) * _PAGE_BYTES

    def rows(self) -> int:
        """Return the number of rows, by counting them all."""
        (count,) = self._writer.execute("SELECT count(*) FROM message").fetchone()
        return int(count)

    def close(self) -> None:
        """Close the file and let other processes have it."""
        for connection in (self._reader, self._writer):
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        self._lock_file.close()


def _open(path: Path, max_pages: int) -> sqlite3.Connection:
    """Connect and touch what a damaged file would fail on: header, schema and both ends of the rows."""
    connection = _connect(path, max_pages)
    try:
        connection.executescript(_SCHEMA)
        for table in ("message", "epoch", "last_seq"):
            connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()  # noqa: S608
        connection.execute("SELECT min(key), max(key) FROM message").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _connect(path: Path, max_pages: int) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 256")
        connection.execute("PRAGMA journal_size_limit = 1048576")
        connection.execute("PRAGMA cache_size = -512")
        # Room above the cap for the rows of one commit and the gaps that eviction leaves.
        connection.execute(f"PRAGMA max_page_count = {max_pages + max_pages // 4 + 256}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _lock(path: Path) -> IO[str]:
    """Return the open lock file beside `path`, locked for this process for as long as it stays open."""
    lock_path = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise IsADirectoryError(21, "not a file", str(path))
        lock_file = lock_path.open("a+", encoding="ascii")
    except OSError as fault:
        raise _cannot(path, fault) from fault
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:
        lock_file.seek(0)
        holder = lock_file.read(20).strip() or "unknown"
        lock_file.close()
        raise TryAgain(
            f"the outbox {path} belongs to a running agent",
            seen=f"process {holder}",
            fix="stop that one, or give this one another --state and --device",
        ) from fault
    lock_file.truncate(0)
    lock_file.write(str(os.getpid()))
    lock_file.flush()
    return lock_file


def _set_aside(path: Path) -> Path:
    damaged = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(damaged.with_name(damaged.name + suffix))
    return damaged


def _cannot(path: Path, fault: Exception) -> CannotCreate:
    reason = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)
    return CannotCreate(
        f"can't keep the outbox in {path}", seen=reason, fix="give a state directory that can be written"
    )


def _stored(key: int, topic: bytes | None, retain: object, payload: bytes | None, crc: object) -> Stored:
    """Return the row; a damaged one may hold anything, so that nothing is taken for what it should be."""
    topic, payload = topic or b"", payload or b""
    intact = crc == _crc(key, topic, payload)
    return Stored(key, topic.decode(errors="replace"), bool(retain), payload, intact)


def _crc(key: int, topic: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(topic, zlib.crc32(str(key).encode())))
