"""Where the clips of one camera lie: within a quota, by giving up the one that is missed least."""

from __future__ import annotations

import errno
import logging
import os
import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, cast

from agent.errors import CannotCreate, IOFault
from agent.recording.plan import LIGHTS, WHYS, Light, Why

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

_NAME = re.compile(rf"(\d{{8}}T\d{{6}}\.\d{{3}}Z)-({'|'.join(LIGHTS)})-({'|'.join(WHYS)})\.mkv")
_STAMP = "%Y%m%dT%H%M%S.%fZ"
_PART = ".part"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Stored:
    """A clip on disk: when it was taken (wall clock), in what light, and why."""

    name: str
    at_s: float
    light: Light
    why: Why
    size_bytes: int


def redundant(clips: Sequence[Stored]) -> Stored:
    """Return the one of `clips`, at least one, that is missed least.

    Of the light that has most clips it is the one whose neighbours in time lie closest together, so that what
    stays is spread over the hours; the first and the last of a light go only when they are all there is.
    """
    counts = Counter(clip.light for clip in clips)
    light = max(LIGHTS, key=lambda name: counts[name])
    same = sorted((clip for clip in clips if clip.light == light), key=lambda clip: clip.name)
    if len(same) < 3:
        return same[0]
    gaps_s = [after.at_s - before.at_s for before, after in zip(same, same[2:], strict=False)]
    return same[1 + gaps_s.index(min(gaps_s))]


def parse_name(name: str, size_bytes: int) -> Stored | None:
    """Return the clip that a file name tells of, None for a file that is none of ours."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        at = datetime.strptime(match[1], _STAMP).replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return Stored(name, at.timestamp(), cast("Light", match[2]), cast("Why", match[3]), size_bytes)


def make_name(at_s: float, light: Light, why: Why) -> str:
    """Return the file name of a clip: its UTC time to the millisecond, its light, and why it was taken."""
    at = datetime.fromtimestamp(0, timezone.utc) + timedelta(milliseconds=round(at_s * 1e3))
    return f"{at:%Y%m%dT%H%M%S}.{at.microsecond // 1000:03d}Z-{light}-{why}.mkv"


class Shelf:
    """The folder of one camera's clips, at most `quota_bytes` in all; other files in it are left alone."""

    def __init__(self, folder: Path, quota_bytes: int) -> None:
        self.folder, self._quota_bytes = folder, quota_bytes
        self.given_up = 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in folder.glob(f".*{_PART}"):
                left.unlink()
        except OSError as error:
            fix = "name a folder that this user may write"
            raise CannotCreate(f"can't record into {folder}", seen=error.strerror, fix=fix) from None

    def clips(self) -> list[Stored]:
        """Return what lies there, the oldest first. Raises IOFault."""
        try:
            found = [_stored(path) for path in self.folder.iterdir()]
        except OSError as error:
            raise _fault(self.folder, error) from None
        return sorted((clip for clip in found if clip is not None), key=lambda clip: clip.name)

    def put(self, content: bytes, at_s: float, light: Light, why: Why) -> None:
        """Store a clip; others give way to it as the quota demands. Raises IOFault, also for a full disk."""
        if len(content) > self._quota_bytes:
            log.warning(
                "%s: a clip of %d bytes is larger than the quota: not kept", self.folder, len(content)
            )
            return
        stored = self.clips()
        names = {clip.name for clip in stored}
        while (name := make_name(at_s, light, why)) in names:
            at_s += 0.001
        try:
            while stored and sum(clip.size_bytes for clip in stored) + len(content) > self._quota_bytes:
                worst = redundant(stored)
                stored.remove(worst)
                (self.folder / worst.name).unlink(missing_ok=True)
                self.given_up += 1
            self._write(name, content)
        except OSError as error:
            raise _fault(self.folder, error) from None
        log.info("%s: %s, %.1f MB", self.folder, name, len(content) / 1e6)

    def _write(self, name: str, content: bytes) -> None:
        part = self.folder / f".{name}{_PART}"
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.rename(self.folder / name)
        finally:
            part.unlink(missing_ok=True)


def _stored(path: Path) -> Stored | None:
    """Return the clip `path`, None for what is no clip or was taken away just now. Links are not followed."""
    try:
        return parse_name(path.name, path.lstat().st_size)
    except FileNotFoundError:
        return None


def _fault(folder: Path, error: OSError) -> IOFault:
    if error.errno in _FULL:
        return IOFault("the disk is full", seen=folder, fix="make room, or give a smaller --quota")
    return IOFault(f"can't keep clips in {folder}", seen=error.strerror, fix="check the disk")
