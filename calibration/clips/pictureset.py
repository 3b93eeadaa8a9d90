"""A set of pictures on disk: `set.json` beside the pictures, each of them a file that the agent's own capture reads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import msgspec

from agent.bundle.files import digest_of
from agent.capture import open_source
from agent.errors import BadData, InputMissing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from agent.messages import Frame

Split = Literal["calibrate", "verify"]
SET_FILE = "set.json"


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a set: frame `seq` of `clip` (an image is a clip of its own) at `pts_s`, kept as `file`."""

    file: Path
    clip: str
    seq: int
    pts_s: float
    sha256: str
    split: Split


@dataclass(frozen=True, slots=True)
class PictureSet:
    """The pictures of `folder`, in the order of their clips and times."""

    folder: Path
    pictures: tuple[Picture, ...]

    def part(self, split: Split) -> PictureSet:
        """Return only the pictures to calibrate on, or those to verify with."""
        return replace(self, pictures=tuple(p for p in self.pictures if p.split == split))

    @property
    def digest(self) -> str:
        """The sha256 of the sorted list of the pictures' sha256: the same pictures, the same digest."""
        return digest_of_list([p.sha256 for p in self.pictures])


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A picture in set.json: what it is, and what it was chosen by (brightness and contrast in grey levels)."""

    file: str
    clip: str
    seq: int
    pts_s: float
    sha256: str
    split: Split
    brightness: float
    contrast: float
    motion: float


class Clip(msgspec.Struct, frozen=True, kw_only=True):
    """A clip in set.json: how many of its pictures were looked at, left out and why, and kept.

    `sha256s` are those of its files: one, or of images that follow each other like a film all.
    """

    name: str
    sha256s: tuple[str, ...]
    split: Literal["calibrate", "verify", "cut"]
    looked_at: int
    kept: int
    left_out: dict[str, int]


class Skipped(msgspec.Struct, frozen=True):
    """A file that gave no picture, and why."""

    file: str
    reason: str


class SetRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What set.json holds. `cut` says in words that one clip had to be cut by time, "" when none was."""

    schema: int = 1
    digest: str
    calibrate: int
    verify: int
    looked_at: int
    left_out: dict[str, int]
    cut: str
    clips: tuple[Clip, ...]
    skipped: tuple[Skipped, ...]
    pictures: tuple[Kept, ...]


def digest_of_list(sha256s: Iterable[str]) -> str:
    """Return the sha256 of the sorted `sha256s`, a line each."""
    return hashlib.sha256("\n".join(sorted(sha256s)).encode()).hexdigest()


def read_set(folder: Path) -> PictureSet:
    """Return the set in `folder`, each file checked. Raises InputMissing, BadData for what is not as it was made."""
    record = read_record(folder)
    pictures = []
    for kept in record.pictures:
        file = folder / kept.file
        if not file.is_file():
            raise InputMissing("a picture of the set is gone", seen=file, fix="make the set again")
        if digest_of(file) != kept.sha256:
            raise BadData("a picture of the set has changed", seen=file, fix="make the set again")
        pictures.append(Picture(file, kept.clip, kept.seq, kept.pts_s, kept.sha256, kept.split))
    return PictureSet(folder, tuple(pictures))


def read_record(folder: Path) -> SetRecord:
    """Return what set.json in `folder` says. Raises InputMissing, BadData."""
    file = folder / SET_FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=SetRecord)
    except OSError as error:
        fix = "make it with `edge-calibrate clips`"
        raise InputMissing("no set of pictures", seen=f"{file}: {error.strerror}", fix=fix) from None
    except msgspec.MsgspecError as error:
        raise BadData(f"{file} is no set of pictures", seen=error, fix="make the set again") from None


def load_frame(picture: Picture) -> Frame:
    """Return the picture as the agent's capture gives it to the preprocessor. Raises AgentError."""
    source = open_source(str(picture.file), camera=picture.clip, pace="fastest")
    try:
        frame = next(source.frames(), None)
    finally:
        source.close()
    if frame is None:
        raise BadData("no picture in it", seen=picture.file, fix="make the set again")
    return replace(frame, seq=picture.seq, pts_s=picture.pts_s, time_s=picture.pts_s)
