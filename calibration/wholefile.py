"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from agent.bundle.writing import sync
from agent.errors import CannotCreate

if TYPE_CHECKING:
    from pathlib import Path


def check_free(*files: Path) -> None:
    """Raise CannotCreate for the first of `files` that is there: it is not to be written over."""
    for file in files:
        if file.exists():
            fix = "give another name, or move the file away"
            raise CannotCreate("the file is there already", seen=file, fix=fix)


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


def ready_folder(folder: Path) -> None:
    """Make `folder`, before hours of work whose result goes there. Raises CannotCreate."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise CannotCreate("not a folder", seen=folder, fix="name a folder, new or not") from None
    except OSError as error:
        fix = "choose a place that can be written"
        raise CannotCreate(f"can't make {folder}", seen=error.strerror, fix=fix) from None
