"""From the clips to the pictures of both parts: outliers out, whole clips held out, diverse pictures chosen. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from calibration.clips.choosing import choose, features, glitches, loners
from calibration.clips.looks import joined
from calibration.clips.splitting import Candidate, cut, held_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from calibration.clips.looks import Looks
    from calibration.clips.units import Unit

    Mask = NDArray[np.bool_]
    Rows = NDArray[np.int64]

MIN_CALIBRATE, MIN_VERIFY = 10, 5
"""Pictures that a set needs."""
VERIFY_SHARE = 1 / 3


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The pictures of all clips, a row each: `clip` is its number, `space` what it is compared by."""

    clip: Rows
    looks: Looks
    space: NDArray[np.float32]
    outlier: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The rows taken for each part, in order, those left out as near-duplicates, and how the clips were split.

    `held` are the clips to verify with; `cut` is the one that gave to both parts, None when none did.
    """

    calibrate: Rows
    verify: Rows
    same: Mask
    held: frozenset[int]
    cut: int | None = None

    @property
    def enough(self) -> bool:
        """Both parts have the pictures that they need."""
        return len(self.calibrate) >= MIN_CALIBRATE and len(self.verify) >= MIN_VERIFY


def table_of(units: Sequence[Unit]) -> Table:
    """Return the rows of all `units`, at least one. Outliers: glitches of clips, images far out of all others."""
    looks = joined([unit.looks for unit in units])
    clip = np.repeat(np.arange(len(units)), [len(unit.looks) for unit in units])
    space = features(looks)
    images = np.array([unit.image for unit in units])[clip]
    outlier = np.zeros(len(looks), bool)
    outlier[images] = loners(space[images])
    for number, unit in enumerate(units):
        if not unit.image:
            outlier[clip == number] = glitches(space[clip == number])
    return Table(clip, looks, space, outlier)


def select(units: Sequence[Unit], table: Table, count: int) -> Choice:
    """Choose at most `count` rows, a third of them to verify with.

    Clips are held out whole. Only where that leaves too little for one part the longest clip is cut by time,
    with a gap between what goes to the one part and what goes to the other.
    """
    usable = np.bincount(table.clip[~table.outlier], minlength=len(units))
    held = held_out(
        [
            Candidate(float(unit.looks.brightness.mean()), int(usable[n]), unit.sources[0].sha256)
            for n, unit in enumerate(units)
        ]
    )
    verify = np.isin(table.clip, sorted(held))
    by_clip = _take(table, ~verify, verify, count, held)
    if by_clip.enough:
        return by_clip
    longest = max(range(len(units)), key=lambda n: (len(units[n].looks), -n))
    rows = np.flatnonzero(table.clip == longest)
    before, after = cut(len(rows))
    calibrate = ~verify
    calibrate[rows] = verify[rows] = False
    calibrate[rows[before]] = verify[rows[after]] = True
    by_time = _take(table, calibrate, verify, count, held - {longest})
    return replace(by_time, cut=longest)


def _take(table: Table, calibrate: Mask, verify: Mask, count: int, held: frozenset[int]) -> Choice:
    """Choose for both parts; no picture to verify with is a near-duplicate of any of the other part's clips."""
    space, blocks, share = table.space, table.looks.blocks, round(count * VERIFY_SHARE)
    first, second = (np.flatnonzero(part & ~table.outlier) for part in (calibrate, verify))
    taken, same_1 = choose(space[first], blocks[first], count - share)
    kept_out, same_2 = choose(space[second], blocks[second], share, apart_from=blocks[first])
    same = np.zeros(len(table.clip), bool)
    same[first[same_1]] = same[second[same_2]] = True
    return Choice(np.sort(first[taken]), np.sort(second[kept_out]), same, held)
