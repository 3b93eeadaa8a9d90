"""What is measured on: the pictures held out of a set, or all of a folder of clips and images."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import av

from agent.capture import open_source
from agent.errors import AgentError, BadData
from calibration.clips.pictureset import SET_FILE, load_frame, read_set
from calibration.clips.sources import find

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.messages import Frame
    from calibration.clips.pictureset import PictureSet
    from calibration.clips.sources import Source

LOOK_S = 0.2
"""Time between two frames of a burst: near enough to see flicker, far enough to see something new."""
BURST = 10
"""Frames in a row; bursts are spread evenly over a clip."""


@dataclass(slots=True)
class Footage:
    """Frames of clips, one pass at a time. `skipped` tells, after a pass, what gave no frame and why."""

    path: Path
    count: int
    skipped: dict[str, str] = field(default_factory=dict)

    def total(self) -> int:
        """Return about how many frames there will be. Raises as `frames`."""
        if kept := _held_out(self.path):
            return len(kept.pictures)
        images = [source.image for source in find([self.path])[0]]
        return sum(images) + (self.count if not all(images) else 0)

    def frames(self) -> Iterator[tuple[str, Frame]]:
        """Yield the clip's name (its path below the folder) and each frame, in order; images all, of videos `count`.

        Raises InputMissing, BadData when there is nothing at all.
        """
        kept = _held_out(self.path)
        any_frame = False
        for found in _of_set(kept) if kept else self._of_files():
            any_frame = True
            yield found
        if not any_frame:
            seen = next((f"{name}: {why}" for name, why in self.skipped.items()), "none")
            raise BadData(f"no clip or image can be used in {self.path}", seen=seen, fix="give others")

    def _of_files(self) -> Iterator[tuple[str, Frame]]:
        sources, skipped = find([self.path])
        self.skipped = {each.file: each.reason for each in skipped}
        videos = sum(not source.image for source in sources)
        share = max(1, self.count // videos) if videos else 0
        for source in sources:
            yield from self._unless_broken(source, 1 if source.image else share)

    def _unless_broken(self, source: Source, most: int) -> Iterator[tuple[str, Frame]]:
        try:
            yield from ((source.name, frame) for frame in _of_file(source, most))
        except (AgentError, av.FFmpegError, ValueError) as error:
            self.skipped[source.name] = getattr(error, "what", str(error))


def _held_out(path: Path) -> PictureSet | None:
    if not (path / SET_FILE).is_file():
        return None
    held_out = read_set(path).part("verify")
    if not held_out.pictures:
        fix = "make it of more clips, or give a folder of others"
        raise BadData("the set has no pictures to verify with", seen=path, fix=fix)
    return held_out


def _of_set(pictures: PictureSet) -> Iterator[tuple[str, Frame]]:
    return ((picture.clip, load_frame(picture)) for picture in pictures.pictures)


def _of_file(source: Source, most: int) -> Iterator[Frame]:
    """Yield at most `most` frames: bursts, evenly over the clip."""
    pause_s = _length_s(source.file) / max(1, most // BURST)
    burst_s = (min(BURST, most) - 0.5) * LOOK_S
    start_s, next_s, taken = 0.0, 0.0, 0
    with closing(open_source(str(source.file), camera=source.name, pace="fastest")) as opened:
        for frame in opened.frames():
            start_s = start_s if taken else frame.pts_s
            into_s = frame.pts_s - start_s
            if into_s < next_s - 1e-6:
                continue
            yield frame
            taken += 1
            if taken == most:
                return
            next_s = into_s + LOOK_S
            if pause_s > burst_s and next_s % pause_s > burst_s:
                next_s = (next_s // pause_s + 1) * pause_s


def _length_s(file: Path) -> float:
    """Return how long a clip says it is, 0 when it does not say."""
    try:
        with av.open(str(file)) as container:
            return (container.duration or 0) / av.time_base
    except (av.FFmpegError, ValueError):
        return 0.0
