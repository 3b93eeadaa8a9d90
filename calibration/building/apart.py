"""What is measured on must not be what was calibrated on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.errors import BadData
from calibration.clips.pictureset import SET_FILE, read_record
from calibration.clips.sources import find

if TYPE_CHECKING:
    from pathlib import Path


def check_apart(clips: Path, held_out: Path) -> None:
    """Raise BadData when a file of `held_out` is in `clips` too; both are folders of clips, or sets of pictures."""
    known, measured = _files(clips), _files(held_out)
    both = sorted(measured[digest] for digest in known.keys() & measured.keys())
    if both:
        seen = both[0] if len(both) == 1 else f"{both[0]} and {len(both) - 1} more"
        raise BadData("--held-out holds what is calibrated on", seen=seen, fix="give clips of other times")


def _files(path: Path) -> dict[str, str]:
    """Return the names of all clips and pictures in `path`, by their sha256; of a set also what it was made of."""
    if (path / SET_FILE).is_file():
        record = read_record(path)
        names = {picture.sha256: picture.file for picture in record.pictures}
        return names | {sha256: clip.name for clip in record.clips if clip.kept for sha256 in clip.sha256s}
    sources, _ = find([path])
    return {source.sha256: source.name for source in sources}
