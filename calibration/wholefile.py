"""Places for what is to be written, looked at before hours of work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.errors import CannotCreate

if TYPE_CHECKING:
    from pathlib import Path


def check_free(*files: Path) -> None:
    """Raise CannotCreate for the first of `files` that is there: it is not to be written over."""
    for file in files:
        if file.exists():
            fix = "give another name, or move the file away"
            raise CannotCreate("the file is there already", seen=file, fix=fix)


def ready_folder(folder: Path) -> None:
    """Make `folder`, before hours of work whose result goes there. Raises CannotCreate."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise CannotCreate("not a folder", seen=folder, fix="name a folder, new or not") from None
    except OSError as error:
        fix = "choose a place that can be written"
        raise CannotCreate(f"can't make {folder}", seen=error.strerror, fix=fix) from None
