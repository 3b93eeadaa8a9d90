"""The file below the outbox: rows by key in SQLite, one transaction a commit; damage is repaired by a new file."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from agent.outbox import replacing, salvage, source
from agent.outbox.ballast import Ballast
from agent.outbox.lockfile import lock
from agent.outbox.stored import (
    FILE_FAULTS,
    PAGE_BYTES,
    ROW,
    SCHEMA,
    SEQ_BITS,
    Books,
    Stored,
    place_of,
    read_books,
    write,
)

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from agent.outbox.salvage import Found
    from agent.outbox.stored import Batch, Place

_HAS_MESSAGES = "SELECT 1 FROM sqlite_master WHERE name = 'message'"
_WRITE_VERSION_AT, _WRITE_VERSION = 18, 2  # sqlite.org/fileformat2.html
_LOG_BYTES = _SLACK_BYTES = 1 << 20


class Journal:
    """Rows by key. `read` belongs to one thread, the rest to another: each has its own connection.

    Raises OSError where no file can be, TryAgain when another process has it; all else raises sqlite3.Error.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self.path, self._max_pages = path, max_bytes // PAGE_BYTES
        self._new = path.with_name(path.name + ".new")
        self._lock_file = lock(path)
        self.ballast = Ballast(path)
        self._reader = self._writer = _closed()

    def open(self) -> Books:
        """Open the file, begin one where there is none; return its books. Damage and old files raise too."""
        replacing.finish(self.path, self._new)
        if self.path.is_dir():
            raise sqlite3.DatabaseError("it is a directory")
        begun = self.path.exists()
        if begun and not self.path.stat().st_size:
            raise sqlite3.DatabaseError("it is empty")
        if begun and _write_version(self.path) > _WRITE_VERSION:
            raise sqlite3.DatabaseError("its header forbids writing")
        self._connect()
        if source.is_old(self._writer):
            raise sqlite3.DatabaseError("it is from an older version")
        if begun and not self._writer.execute(_HAS_MESSAGES).fetchone():
            raise sqlite3.DatabaseError("it is no outbox")
        self._writer.executescript(SCHEMA)
        books = read_books(self._writer)
        if not books.whole:
            raise sqlite3.DatabaseError("its accounts are damaged")
        self._check(books)
        return books

    def _connect(self) -> None:
        self.disconnect()
        self._writer = _connected(self.path, self._max_pages)
        self._reader = _connected(self.path, self._max_pages)

    def _check(self, books: Books) -> None:
        """Compare the accounts with the first and last row of each place."""
        alive = {place for place, account in books.accounts.items() if account.queued}
        if min((account.queued for account in books.accounts.values()), default=0) < 0:
            raise sqlite3.DatabaseError("its accounts don't balance")
        if alive != set(self._places()) or {epoch for epoch, _ in books.accounts} - books.epochs.keys():
            raise sqlite3.DatabaseError("its accounts and messages don't fit")

    def _places(self) -> Iterator[tuple[int, int]]:
        """Yield epoch and lane of all rows, by skipping through the index."""
        key = -(1 << 63)
        while (
            row := self._writer.execute("SELECT min(key) FROM message WHERE key >= ?", (key,)).fetchone()
        ) and row[0] is not None:
            if row[0] < key:
                raise sqlite3.DatabaseError("keys out of order")
            yield place_of(row[0])
            key = ((row[0] >> SEQ_BITS) + 1) << SEQ_BITS
            if key >= 1 << 63:
                return

    def commit(self, batch: Batch) -> None:
        """Do all of `batch`; it is on disk on return. When it raises, nothing has changed."""
        with _transaction(self._writer):
            write(self._writer, batch)

    def read(self, first: int, end: int, limit: int) -> list[Stored]:
        """Return up to `limit` committed rows with first <= key < end, ascending."""
        query = f"SELECT {ROW} FROM message WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"  # noqa: S608
        return [Stored.of(*row) for row in self._reader.execute(query, (first, end, limit))]

    def sizes(self, first: int, end: int, limit: int) -> list[tuple[int, int]]:
        """Return key and bytes of the first `limit` rows with first <= key < end."""
        query = (
            "SELECT key, length(payload) + length(topic) + 32 FROM message"
            " WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
        )
        return list(self._writer.execute(query, (first, end, limit)))

    def used_bytes(self) -> int:
        """Return the size of the pages in use."""
        (pages,) = self._writer.execute("PRAGMA page_count").fetchone()
        (free,) = self._writer.execute("PRAGMA freelist_count").fetchone()
        return int(pages - free) * PAGE_BYTES

    def repair(
        self,
        *,
        skip: Collection[int],
        ask: Collection[int],
        missing: Callable[[Found], Counter[Place]],
        settle: Callable[[Found], Batch],
    ) -> Path | None:
        """Put a new file in the place of this one, with its good rows and what `settle` makes of them.

        Rows of the keys in `skip` are left out; Found says which of the keys in `ask` were there; `missing`
        tells what of each place should be there besides. Returns where the damaged file lies, None for one
        that was only old. When it raises, the old file is as it was.
        """
        self.disconnect()
        replacing.finish(self.path, self._new)
        with contextlib.closing(sqlite3.connect(self._new, isolation_level=None)) as target:
            for pragma in (f"page_size = {PAGE_BYTES}", "journal_mode = OFF", "synchronous = OFF"):
                target.execute(f"PRAGMA {pragma}")
            target.executescript(SCHEMA)
            with _transaction(target):
                found = salvage.carry_over(self.path, target, skip=skip, ask=ask, missing=missing)
                write(target, settle(found))
        damaged = replacing.replace(self.path, self._new, keep=found.damaged)
        self._connect()
        return damaged

    def disconnect(self) -> None:
        """Close the connections; `repair` opens them again."""
        for connection in (self._reader, self._writer):
            with contextlib.suppress(*FILE_FAULTS):
                connection.close()

    def close(self) -> None:
        """Close the file and let other processes have it."""
        self.disconnect()
        self._lock_file.close()


def _write_version(path: Path) -> int:
    """Return the byte of the header that makes SQLite take a file for read-only where it is too high."""
    with path.open("rb") as file:
        return int.from_bytes(file.read(_WRITE_VERSION_AT + 1)[_WRITE_VERSION_AT:], "big")


def _closed() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.close()
    return connection


def _connected(path: Path, max_pages: int) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
    try:
        for pragma in (
            f"page_size = {PAGE_BYTES}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "secure_delete = OFF",  # Debian's default overwrites what is deleted: wear without a use
            f"wal_autocheckpoint = {_LOG_BYTES // PAGE_BYTES}",
            f"journal_size_limit = {_LOG_BYTES}",
            "cache_size = -512",
            # Room above the cap for the rows of one commit and the gaps that eviction leaves.
            f"max_page_count = {max_pages + max_pages // 4 + _SLACK_BYTES // PAGE_BYTES}",
        ):
            connection.execute(f"PRAGMA {pragma}")
    except FILE_FAULTS:
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
            with contextlib.suppress(*FILE_FAULTS):
                connection.execute("ROLLBACK")
        raise
