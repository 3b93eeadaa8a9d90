"""The state directory: can it be written, is there room, does it last, how fast is it."""

from __future__ import annotations

import contextlib
import errno
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from agent import stateschema
from agent.check import mounts
from agent.check.finding import Finding, fault, fault_of, ok, warning
from agent.check.lock import running_agent
from agent.errors import BadConfig
from agent.hardware.files import printable

if TYPE_CHECKING:
    from agent.check.mounts import Mount

WHAT = "state directory"
LIMIT_S = 15.0
_BLOCK_BYTES, _WRITES = 4096, 5
_SLOW_MS = 100.0
"""The outbox commits events within this time; a flush that takes longer holds up the next."""
_SPARE_BYTES = 16 << 20
"""For the journal of SQLite and for others."""


def check(state_dir: Path, *, max_bytes: int) -> list[Finding]:
    """Look at `state_dir`, where an outbox of at most `max_bytes` is to live; nothing of it is left changed.

    It is not made when it is missing: then the nearest directory above is tried.
    """
    place = _existing(state_dir)
    if not place.is_dir():
        return [fault(WHAT, f"{place} is not a directory", fix="give another state_dir (--state)")]
    mount = mounts.mount_of(place.resolve(), mounts.read_mountinfo())
    try:
        flush_ms = _flush_ms(place)
    except OSError as error:
        return [_unwritable(place, error)]
    status = os.statvfs(place)
    free_bytes = status.f_bavail * status.f_frsize
    missing = "" if place == state_dir else f" (not there yet; {place} can be written)"
    text = (
        f"{state_dir}{missing}: {mount.kind or 'unknown'}, {_size(free_bytes)} free, fsync {flush_ms:.1f} ms"
    )
    return [
        ok(WHAT, text),
        *_room(free_bytes, status.f_favail, status.f_files, max_bytes),
        *lasting(mount),
        *_speed(flush_ms),
        *_agent(state_dir),
        *_schema(state_dir),
    ]


def lasting(mount: Mount) -> list[Finding]:
    """Return a warning for a file system that forgets, or that a database does not lie well on."""
    seen = f"{printable(mount.point)} is {mount.kind}"
    if mount.kind in mounts.MEMORY:
        lost = "what waits for the broker is lost at power-off"
        return [warning(WHAT, f"{seen}: {lost}", fix="put state_dir on a disk or card")]
    if mount.kind in mounts.OVERLAY:
        lost = "it may be gone with the container or the next boot"
        return [warning(WHAT, f"{seen}: {lost}", fix="put state_dir on a volume of its own")]
    if mount.kind in mounts.NETWORK:
        return [warning(WHAT, f"{seen}: SQLite needs locks that work", fix="put state_dir on a local disk")]
    if mount.kind in mounts.WITHOUT_JOURNAL:
        return [warning(WHAT, f"{seen}: a power cut may damage it", fix="put state_dir on ext4 or f2fs")]
    return []


def sink(file: str) -> Finding:
    """Return the row of the JSONL file that events go to; "-" is standard output."""
    if file == "-":
        return ok("sink", "events go to standard output")
    path = Path(file)
    target = path if path.exists() else path.absolute().parent
    if target.exists() and os.access(target, os.W_OK) and (target == path) != target.is_dir():
        return ok("sink", f"events go to {file}")
    return fault("sink", f"{file} can't be written", fix="give another sink, or make its directory writable")


def _existing(path: Path) -> Path:
    path = path.absolute()
    while path != path.parent:
        with contextlib.suppress(OSError):
            if os.path.lexists(path):
                return path
        path = path.parent
    return path


def _flush_ms(folder: Path) -> float:
    """Return the median time of writing a block through to the disk, in a file that is gone afterwards."""
    times_ms = []
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".edge-agent-check-", buffering=0) as file:
        for _ in range(_WRITES):
            began_s = time.perf_counter()
            file.write(bytes(_BLOCK_BYTES))
            os.fsync(file.fileno())
            times_ms.append((time.perf_counter() - began_s) * 1e3)
    return statistics.median(times_ms)


def _unwritable(place: Path, error: OSError) -> Finding:
    fixes = {
        errno.ENOSPC: "make room: delete what is not needed, or put state_dir on another disk",
        errno.EDQUOT: "make room, or raise the quota of this user",
        errno.EROFS: "mount it read-write, or put state_dir elsewhere (a damaged card turns read-only)",
        errno.EIO: "the disk or card fails: replace it",
    }
    owner = f"let the agent's user write it: chown, or another state_dir (now: user {os.geteuid()})"
    return fault(WHAT, f"{place}: {error.strerror}", fix=fixes.get(error.errno or 0, owner))


def _room(free_bytes: int, free_files: int, files: int, max_bytes: int) -> list[Finding]:
    if files and not free_files:
        return [fault(WHAT, "no inode left", fix="delete files that are not needed")]
    need_bytes = max_bytes + _SPARE_BYTES
    if free_bytes >= need_bytes:
        return []
    text = f"{_size(free_bytes)} free; an outage may fill {_size(need_bytes)}"
    return [warning(WHAT, text, fix="make room, or lower outbox.max_mbytes")]


def _speed(flush_ms: float) -> list[Finding]:
    if flush_ms <= _SLOW_MS:
        return []
    text = f"fsync takes {flush_ms:.0f} ms"
    return [warning(WHAT, text, fix="use a faster card (A2) or an SSD, or put state_dir on one")]


def _agent(state_dir: Path) -> list[Finding]:
    with contextlib.suppress(OSError):
        pid = running_agent(state_dir, Path("/proc/locks").read_text(encoding="ascii"))
        if pid is not None:
            return [ok("agent", f"runs on this state directory, process {pid}; it is left alone")]
    return []


def _schema(state_dir: Path) -> list[Finding]:
    """Return a fault where the directory is of a newer agent."""
    try:
        stateschema.check(state_dir)
    except BadConfig as error:
        return [fault_of(WHAT, error)]
    return []


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"
