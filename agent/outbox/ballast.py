"""Room kept for a disk that others fill: a file that is given up so that deletions can be written."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BALLAST_BYTES = 2 << 20
_SPARE_BYTES = 8 << 20
_TRY_EVERY_S = 30.0


class Ballast:
    """2 MiB beside `path`. `release` gives them up, `restore` takes them again when there is room."""

    def __init__(self, path: Path, *, size_bytes: int = BALLAST_BYTES) -> None:
        self._path, self._size_bytes = path.with_name(path.name + ".ballast"), size_bytes
        self._next_s = 0.0

    def release(self) -> bool:
        """Delete the file; return whether that made room."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def restore(self, now_s: float) -> None:
        """Make the file again where it is missing and there is room for it and more; asked now and then."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + _TRY_EVERY_S
        with contextlib.suppress(OSError):
            if self._path.exists() and self._path.stat().st_size == self._size_bytes:
                return
            disk = os.statvfs(self._path.parent)
            if disk.f_bavail * disk.f_frsize < self._size_bytes + _SPARE_BYTES:
                return
            self._make()

    def _make(self) -> None:
        try:
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size_bytes)
        except OSError:
            self._path.unlink(missing_ok=True)
