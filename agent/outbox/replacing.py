"""A new file in the place of a damaged one: a crash at any moment leaves one that is whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PARTS = ("", "-wal", "-shm")
"""What belongs to a file of SQLite."""
_KEPT = 3


def replace(path: Path, new: Path, *, keep: bool) -> Path | None:
    """Put the file `new` in the place of `path`; return where that lies now, None unless it is to be kept.

    A crash at any moment leaves one that is whole for `finish` to find. Raises OSError.
    """
    _sync(new)
    damaged = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    for part in PARTS:
        with contextlib.suppress(FileNotFoundError):
            beside(path, part).rename(beside(damaged, part))
    new.rename(path)
    _sync(path.parent)
    aside = sorted(p for p in path.parent.glob(f"{path.name}.damaged-*") if not p.name.endswith(PARTS[1:]))
    for old in aside[:-_KEPT] if keep else [*aside[: -_KEPT - 1], damaged]:
        remove(old)
    return damaged if keep else None


def finish(path: Path, new: Path) -> None:
    """Finish or undo a `replace` that a crash cut off. Raises OSError."""
    if new.exists() and not path.exists():
        for part in PARTS[1:]:
            beside(path, part).unlink(missing_ok=True)
        new.rename(path)
    remove(new)
    remove(patched(path))


def damaged_files(path: Path) -> list[str]:
    """Return the names of the damaged files that are kept beside `path`, the oldest first."""
    names = (p.name for p in path.parent.glob(f"{path.name}.damaged-*"))
    return sorted(name for name in names if not name.endswith(PARTS[1:]))


def patched(path: Path) -> Path:
    """Return where a copy of the file lies that is mended in order to be read."""
    return path.with_name(path.name + ".patched")


def beside(path: Path, part: str) -> Path:
    """Return one of PARTS of `path`."""
    return path.with_name(path.name + part)


def remove(path: Path) -> None:
    """Delete the file with all its parts, or the directory, where there is one. Raises OSError."""
    for part in (*PARTS, "-journal"):
        file = beside(path, part)
        with contextlib.suppress(FileNotFoundError):
            if file.is_dir():
                shutil.rmtree(file)
            else:
                file.unlink()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
