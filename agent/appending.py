"""Whole lines at the end of a file: all of them on disk, or none."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path


def open_to_append(path: Path) -> BinaryIO:
    """Return the file, unbuffered; a line that a crash cut short is ended first. Raises OSError."""
    file = path.open("ab+", buffering=0)
    if file.seekable() and file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")
    return file


def append(file: BinaryIO, data: bytes) -> None:
    """Write all of `data` and have it on disk, or leave the file as it was. Raises OSError."""
    if not data:
        return
    status = os.fstat(file.fileno())
    regular, view = stat.S_ISREG(status.st_mode), memoryview(data)
    try:
        while view:
            view = view[file.write(view) :]
        file.flush()
        if regular:
            os.fsync(file.fileno())
    except OSError:
        if regular:
            os.ftruncate(file.fileno(), status.st_size)
        raise
