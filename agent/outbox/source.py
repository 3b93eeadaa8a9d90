"""A damaged or older outbox file, opened for reading whatever can be read."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.outbox.replacing import PARTS, beside, patched, remove
from agent.outbox.stored import FILE_FAULTS, PAGE_BYTES, SCHEMA, Account, Books, Epoch, is_damage, read_books

if TYPE_CHECKING:
    from pathlib import Path

_HEADER_PAGES = slice(28, 32)
_TABLES = "SELECT cast(name AS BLOB), rootpage, cast(sql AS BLOB) FROM sqlite_master ORDER BY rootpage"


def is_old(connection: sqlite3.Connection) -> bool:
    """Return whether this is a file of the first version. Raises sqlite3.Error."""
    query = "SELECT 1 FROM sqlite_master WHERE name = 'last_seq'"
    return connection.execute(query).fetchone() is not None


@dataclass(slots=True)
class Source:
    """A file that is open for reading, or nothing that can be read."""

    connection: sqlite3.Connection | None = None
    books: Books = field(default_factory=lambda: Books(torn={"account", "message"}))
    old: bool = False
    copy: Path | None = None

    def close(self) -> None:
        """Close it, and delete the copy."""
        if self.connection is not None:
            self.connection.close()
        if self.copy is not None:
            remove(self.copy)


def readable(path: Path) -> Source:
    """Open the file; where it does not name its tables, a copy of it with the first pages of a good one."""
    if not path.is_file():
        return Source()
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
        return Source()


def _opened(path: Path, copy: Path | None) -> Source:
    if not path.stat().st_size:
        raise sqlite3.DatabaseError("it is empty")  # SQLite would delete its log
    connection = sqlite3.connect(path, timeout=5, isolation_level=None)
    try:
        old = is_old(connection)
        if not old and connection.execute(_TABLES).fetchall() != _good_tables():
            raise sqlite3.DatabaseError("its tables are not those of an outbox")
        books = _old_books(connection) if old else read_books(connection)
    except FILE_FAULTS:
        connection.close()
        raise
    return Source(connection, books, old, copy)


def _good_tables() -> list[tuple[bytes, int, bytes]]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        _make_tables(connection)
        return connection.execute(_TABLES).fetchall()


def _make_tables(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.executescript(SCHEMA)


def _patch(path: Path, copy: Path) -> None:
    """Copy the file with the pages that name the tables: they are the same in all, made before all others."""
    for part in PARTS[:2]:
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(beside(path, part), beside(copy, part))
    template = copy.with_name(copy.name + ".template")
    remove(template)
    with contextlib.closing(sqlite3.connect(template, isolation_level=None)) as connection:
        _make_tables(connection)
        roots = {root for _, root, _ in connection.execute(_TABLES)}
    content = bytearray(template.read_bytes())
    remove(template)
    pages = copy.stat().st_size // PAGE_BYTES
    content[_HEADER_PAGES] = max(pages, 1).to_bytes(4, "big")
    with copy.open("r+b") as file:
        for number in range(1, len(content) // PAGE_BYTES + 1):
            if number not in roots:
                at = (number - 1) * PAGE_BYTES
                file.seek(at)
                file.write(content[at : at + PAGE_BYTES])


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
        books.torn.add("account")
    return books
