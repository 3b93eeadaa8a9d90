"""Which clips are calibrated on and which are held out: whole clips, never single frames of one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CUT_FROM, CUT_TO = 0.6, 0.7
"""A clip that must be cut gives what comes before to the one part and what comes after to the other."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A clip: its mean brightness, how many of its pictures can be used, and a key that orders equals."""

    brightness: float
    pictures: int
    key: str


def held_out(clips: Sequence[Candidate]) -> frozenset[int]:
    """Return the numbers of the clips to verify with: about one in three, from the darkest to the brightest.

    Of each three clips that follow each other in brightness it is the one of the middle length; of two that
    are left over the shorter one, of a single one none: so the larger part is there to calibrate on.
    """
    order = sorted(range(len(clips)), key=lambda n: (clips[n].brightness, clips[n].key))
    trios = zip_longest(*[iter(order)] * 3)
    held = []
    for trio in trios:
        by_size = sorted((n for n in trio if n is not None), key=lambda n: (clips[n].pictures, clips[n].key))
        if len(by_size) > 1:
            held.append(by_size[(len(by_size) - 1) // 2])
    return frozenset(held)


def cut(pictures: int) -> tuple[slice, slice]:
    """Return which pictures of a clip, in order, come before the gap and which come after it."""
    first, after = int(pictures * CUT_FROM), -int(-pictures * CUT_TO // 1)
    return slice(0, first), slice(max(after, first + 1), pictures)
