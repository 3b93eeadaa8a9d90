"""Opening the outbox's file: repaired where it is damaged, in memory where the disk takes nothing."""

from __future__ import annotations

import errno
import logging
import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import CannotCreate
from agent.outbox.journal import Journal
from agent.outbox.ledger import Ledger
from agent.outbox.memoryfile import MEMORY_BYTES, make_private, memory_file, take_back
from agent.outbox.stored import FILE_FAULTS, Epoch, is_damage, one_line

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

    from agent.outbox.salvage import Found
    from agent.outbox.stored import Batch, Place

log = logging.getLogger(__name__)

_REFUSES = {errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO}


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file with its accounts, in a new epoch. `left`: the notes of the runs before."""

    journal: Journal
    ledger: Ledger
    left: dict[str, bytes]
    max_bytes: int
    durable: bool
    repaired: int


def open_file(path: Path, *, device: str, gap_topic: str, epoch: Epoch, max_bytes: int) -> Opened:
    """Open the outbox at `path`, or where its disk refuses (full, read-only, broken) one in memory.

    What a run before left in memory comes to the disk. Raises CannotCreate, TryAgain.
    """
    try:
        return _open(path, device, gap_topic, epoch, max_bytes, durable=True)
    except (*FILE_FAULTS, OSError) as fault:
        if not _disk_refuses(path, fault):
            raise _cannot(path, fault) from fault
        try:
            place = memory_file(path)
            make_private(place.parent)
            max_bytes = min(max_bytes, MEMORY_BYTES)
            opened = _open(place, device, gap_topic, epoch, max_bytes, durable=False)
        except (*FILE_FAULTS, OSError):
            raise _cannot(path, fault) from fault
        reason = fault.strerror if isinstance(fault, OSError) else one_line(fault)
        log.error(
            "outbox: %s takes nothing (%s): messages are kept in memory, lost at power-off; mend the disk "
            "and restart",
            path.parent,
            reason,
        )
        return opened


def _open(path: Path, device: str, gap_topic: str, epoch: Epoch, max_bytes: int, *, durable: bool) -> Opened:
    journal = Journal(path, max_bytes=max_bytes)
    try:
        try:
            return _begun(journal, device, gap_topic, epoch, max_bytes, durable=durable)
        except (*FILE_FAULTS, OSError):
            # On a disk that is full the ballast of the run before may be what is missing.
            if not journal.ballast.release():
                raise
            return _begun(journal, device, gap_topic, epoch, max_bytes, durable=durable)
    except BaseException:
        journal.close()
        raise


def _begun(
    journal: Journal, device: str, gap_topic: str, epoch: Epoch, max_bytes: int, *, durable: bool
) -> Opened:
    try:
        books = journal.open()
        if durable and take_back(journal, books, memory_file(journal.path)):
            books = journal.open()
        ledger = Ledger(device, gap_topic, books)
        ledger.begin(epoch)
        entries = ledger.entries({})
        journal.commit(entries)
    except FILE_FAULTS as fault:
        if not is_damage(fault):
            raise
        ledger, notes, damaged = _repaired(journal, device, gap_topic, epoch, fault)
        return Opened(journal, ledger, notes, max_bytes, durable, int(damaged))
    ledger.entered(entries)
    return Opened(journal, ledger, books.notes, max_bytes, durable, 0)


def _repaired(
    journal: Journal, device: str, gap_topic: str, epoch: Epoch, fault: Exception
) -> tuple[Ledger, dict[str, bytes], bool]:
    """Carry over what is good; return the accounts, the notes, and whether anything was damaged at all."""
    kept: list[tuple[Ledger, dict[str, bytes], Batch]] = []

    def settle(found: Found) -> Batch:
        ledger = Ledger(device, gap_topic, found.books)
        batch = ledger.settle(found, {}, epoch)
        kept.append((ledger, found.books.notes, batch))
        return batch

    def missing(found: Found) -> Counter[Place]:
        return Ledger(device, gap_topic, found.books).missing(found, {})

    aside = journal.repair(skip=(), ask=(), missing=missing, settle=settle)
    ledger, notes, batch = kept[-1]
    ledger.entered(batch)
    if aside is None:
        log.warning("outbox %s: of an older version, carried over", journal.path)
    else:
        log.warning(
            "outbox %s was damaged (%s): kept as %s, what is good goes on",
            journal.path,
            one_line(fault),
            aside,
        )
    return ledger, notes, aside is not None


def _disk_refuses(path: Path, fault: Exception) -> bool:
    """Return whether it is the disk that refuses, and not the path that is wrong."""
    if isinstance(fault, OSError):
        return fault.errno in _REFUSES
    try:
        with tempfile.TemporaryFile(dir=path.parent, buffering=0) as file:
            file.write(bytes(4096))
            os.fsync(file.fileno())
    except OSError as refused:
        return refused.errno in _REFUSES
    return "disk I/O error" in str(fault) or "is full" in str(fault)


def _cannot(path: Path, fault: Exception) -> CannotCreate:
    reason = fault.strerror if isinstance(fault, OSError) and fault.strerror else one_line(fault)
    return CannotCreate(
        f"can't keep the outbox in {path}", seen=reason, fix="give a state directory that can be written"
    )
