"""The pictures that everything else works on: a set that was made, or a folder of clips made into one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from calibration.clips.making import make_set
from calibration.clips.pictureset import SET_FILE, Picture, PictureSet, load_frame, read_set
from calibration.clips.sources import find

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from calibration.clips.sources import Source

__all__ = ["Picture", "PictureSet", "load_frame", "open_pictures"]

_SELECTION = 2
"""Goes up with every change of what is chosen or recorded, so that no older set is found again."""


def open_pictures(
    path: Path, *, work: Path, count: int = 300, progress: Callable[[str, int, int], None] | None = None
) -> PictureSet:
    """Return the set in `path`, or one made of the clips and images there in `work`, found again by a re-run.

    `progress(what, done, of)` is called now and then. Raises InputMissing, BadData, CannotCreate.
    """
    if (path / SET_FILE).is_file():
        return read_set(path)
    sources, unread = find([path])
    folder = work / f"pictures-{_key(sources, count)}"
    if not (folder / SET_FILE).is_file():
        make_set(sources, unread, folder, scans=work / "scans", count=count, progress=progress)
    return read_set(folder)


def _key(sources: Sequence[Source], count: int) -> str:
    lines = [f"{_SELECTION} {count}", *(f"{source.sha256} {source.name}" for source in sources)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
