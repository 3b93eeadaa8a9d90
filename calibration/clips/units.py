"""Clips as they are split: a video, an image, or images that follow each other like a film. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from calibration.clips.looks import Looks, joined, motion_between
from calibration.clips.scanning import every

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calibration.clips.scanning import Scan
    from calibration.clips.sources import Source

MAX_ROWS = 8000
"""So many pictures are compared with each other at most."""
SEQUENCE_CHANGE = 0.12
"""Images that follow each other by name and differ in a smaller share of their blocks are one clip."""


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """A clip. Of several images `looks.seq` says which of the `sources` a row is of; else it is the frame."""

    sources: tuple[Source, ...]
    looks: Looks
    left_out: dict[str, int]

    @property
    def name(self) -> str:
        """The name of its (first) file."""
        return self.sources[0].name

    @property
    def image(self) -> bool:
        """It is one single picture."""
        return len(self.sources) == 1 and self.sources[0].image

    def source_of(self, seq: int) -> Source:
        """Return the file that holds frame `seq`."""
        return self.sources[seq if len(self.sources) > 1 else 0]


def units_of(scans: Sequence[Scan]) -> list[Unit]:
    """Return the clips of `scans`, in their order; scans without pictures are left out."""
    runs: list[list[tuple[Scan, Looks]]] = []
    for one in ((s, s.looks) for s in scans if s.looks is not None):
        if runs and _follows(runs[-1][-1], one):
            runs[-1].append(one)
        else:
            runs.append([one])
    step = every(sum(len(looks) for run in runs for _, looks in run), MAX_ROWS)
    return [_unit(run, step) for run in runs]


def _follows(before: tuple[Scan, Looks], one: tuple[Scan, Looks]) -> bool:
    first, second = before[0].source, one[0].source
    if not (first.image and second.image and first.file.parent == second.file.parent):
        return False
    return motion_between(before[1].blocks[0], one[1].blocks[0]) < SEQUENCE_CHANGE


def _unit(run: Sequence[tuple[Scan, Looks]], step: int) -> Unit:
    looks = joined([looks for _, looks in run])
    if len(run) > 1:
        moved = [0.0, *(motion_between(a, b) for a, b in zip(looks.blocks, looks.blocks[1:], strict=False))]
        looks = replace(looks, seq=np.arange(len(run)), motion=np.array(moved, np.float32))
    left_out = sum((Counter(s.left_out) for s, _ in run), Counter[str]())
    return Unit(tuple(s.source for s, _ in run), looks[::step], dict(left_out))
