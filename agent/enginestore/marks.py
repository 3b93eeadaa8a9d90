"""Marks of the starts that took an engine to work: an engine that ends the process is not to do so for ever.

A mark is a file beside the engine, held by a lock of its process: one that nobody holds is of a start that died.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
from typing import TYPE_CHECKING

from agent.wholefile import sync

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

_PREFIX = "at-work-"
_HANDLES: dict[Path, int] = {}
"""Those of this process. They close with it, whatever its end."""


def set_mark(engine: Path) -> Path | None:
    """Note durably, in the folder of an engine, that this process takes it to work; None where nothing can be noted."""
    mark = engine / f"{_PREFIX}{secrets.token_hex(4)}"
    try:
        handle = os.open(mark, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        fcntl.flock(handle, fcntl.LOCK_EX)
        _HANDLES[mark] = handle
        sync(mark)
        sync(engine)
    except OSError as error:
        log.warning("can't note that %s is at work: %s", engine, error.strerror)
        return None
    return mark


def clear(mark: Path) -> None:
    """Take away `mark`, of this process, and those of the starts that died: the engine works."""
    for left in (mark, *_dead(mark.parent)):
        with contextlib.suppress(OSError):
            left.unlink()
    if (handle := _HANDLES.pop(mark, None)) is not None:
        os.close(handle)


def deaths(engine: Path) -> int:
    """Return how many starts died with the engine in the folder `engine` at work, since it last worked."""
    return len(_dead(engine))


def _dead(engine: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return [mark for mark in engine.glob(f"{_PREFIX}*") if _is_free(mark)]
    return []


def _is_free(mark: Path) -> bool:
    """Tell whether no process holds `mark`."""
    try:
        with mark.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
