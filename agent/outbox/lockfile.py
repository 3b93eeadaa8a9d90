"""One process at a time for a file: an advisory lock beside it, that goes with the process."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import IO, TYPE_CHECKING

from agent.errors import TryAgain

if TYPE_CHECKING:
    from pathlib import Path


def lock(path: Path) -> IO[str]:
    """Return the open lock file beside `path`, locked for this process for as long as it stays open.

    Its text is the process number, as far as the disk takes it. Raises OSError, TryAgain when another has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock_file = path.with_name(path.name + ".lock").open("a+", encoding="ascii")
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as fault:
        lock_file.seek(0)
        holder = lock_file.read(20).strip() or "unknown"
        lock_file.close()
        raise TryAgain(
            f"the outbox {path} belongs to a running agent",
            seen=f"process {holder}",
            fix="stop that one, or give this one another --state and --device",
        ) from fault
    with contextlib.suppress(OSError):
        os.ftruncate(lock_file.fileno(), 0)
        os.write(lock_file.fileno(), str(os.getpid()).encode())
    return lock_file
