"""Whether an agent runs on a state directory: seen in /proc/locks, never by taking its lock."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def holder(lock_file: Path, locks: str) -> int | None:
    """Return the process that has `lock_file` locked by the text of /proc/locks (proc(5)), else None.

    A file system on several devices (btrfs, overlay) shows another device number there: then the inode and
    the process that wrote its number into the file must agree.
    """
    try:
        status = lock_file.stat()
        writer = lock_file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    for line in locks.splitlines():
        words = line.split()
        if len(words) < 6 or words[1] != "FLOCK":
            continue
        pid, (place, _, inode) = words[4], words[5].rpartition(":")
        if inode == str(status.st_ino) and (place == device or pid == writer):
            return int(pid)
    return None


def running_agent(state_dir: Path, locks: str) -> int | None:
    """Return the process of an agent that has one of the outboxes in `state_dir`, else None."""
    try:
        found = sorted(state_dir.glob("*.db.lock"))
    except OSError:
        return None
    return next((pid for file in found if (pid := holder(file, locks)) is not None), None)
