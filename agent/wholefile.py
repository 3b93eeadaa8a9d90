"""Files that appear whole or not at all, and stay over a power cut."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from agent.errors import CannotCreate

if TYPE_CHECKING:
    from pathlib import Path


def write_whole(file: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write `content` beside `file`, through to the disk, and put it in its place; a missing folder is made.

    `mode` is that of the new file, before the umask. Raises CannotCreate.
    """
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        part.replace(file)
        sync(file.parent)
    except OSError as error:
        fix = "make room, or write elsewhere"
        raise CannotCreate(f"can't write {file}", seen=error.strerror or error, fix=fix) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def sync(path: Path) -> None:
    """Make a file or directory durable, so that a rename never reaches the disk before the data. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
