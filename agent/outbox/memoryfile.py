"""A small outbox in memory for a disk that takes nothing, and its way back to the disk."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.outbox import replacing, salvage
from agent.outbox.lockfile import lock
from agent.outbox.stored import ROW, SCHEMA, Batch, Stored, make_key, split_key

if TYPE_CHECKING:
    from agent.outbox.journal import Journal
    from agent.outbox.stored import Books

log = logging.getLogger(__name__)

MEMORY_BYTES = 4 << 20


def memory_file(path: Path) -> Path:
    """Return where the outbox of `path` lies in memory: in $RUNTIME_DIRECTORY, else in /dev/shm."""
    name = f"outbox-{zlib.crc32(str(path.absolute()).encode()):08x}.db"
    if runtime := os.environ.get("RUNTIME_DIRECTORY"):
        return Path(runtime.split(":")[0]) / name
    return Path("/dev/shm") / f"edge-agent-{os.geteuid()}" / name  # noqa: S108 - see make_private


def make_private(folder: Path) -> None:
    """Make `folder` in /dev/shm, for this user alone. Raises OSError, also where another user was first."""
    if folder.parent != Path("/dev/shm"):  # noqa: S108 - that is where anybody may make files
        return
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not _is_private(folder):
        raise PermissionError(errno.EACCES, "belongs to another user", str(folder))


def take_back(journal: Journal, books: Books, path: Path) -> bool:
    """Move what a run before left in the memory file `path` into `journal`; return whether there was any.

    Its epochs come after those of `books`. Raises what journals raise, TryAgain while an agent still uses it.
    """
    if not path.is_file() or (path.parent.parent == Path("/dev/shm") and not _is_private(path.parent)):  # noqa: S108
        return False
    with lock(path):
        batch = _renumbered(path, max(books.epochs, default=0))
        journal.commit(batch)
        replacing.remove(path)
    log.warning("outbox: %d messages that were kept in memory are on disk now", len(batch.rows))
    return True


def _renumbered(path: Path, after: int) -> Batch:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as memory:
        memory.executescript(SCHEMA)
        found = salvage.carry_over(path, memory, skip=(), ask=(), missing=lambda _: Counter())
        number = {old: after + at for at, old in enumerate(sorted(found.books.epochs), 1)}
        rows = [Stored.of(*row) for row in memory.execute(f"SELECT {ROW} FROM message")]  # noqa: S608
    return Batch(
        rows=[replace(row, key=_moved(row.key, number)) for row in rows],
        notes=found.books.notes,
        epochs={number[old]: epoch for old, epoch in found.books.epochs.items()},
        accounts={(number[epoch], lane): account for (epoch, lane), account in found.books.accounts.items()},
    )


def _moved(key: int, number: dict[int, int]) -> int:
    lane, epoch, seq = split_key(key)
    return make_key(lane, number[epoch], seq)


def _is_private(folder: Path) -> bool:
    status = folder.lstat()
    return folder.is_dir() and status.st_uid == os.geteuid() and not status.st_mode & 0o077
