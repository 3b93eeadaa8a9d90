"""Which pictures to keep: no outliers, no near-duplicates, and of the others those that lie farthest apart. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from calibration.clips.looks import Looks

    Floats = NDArray[np.float32]
    Rows = NDArray[np.int64]
    Mask = NDArray[np.bool_]

SAME_LEVELS = 6.0
"""Two pictures are near-duplicates when no block of one differs from that of the other by more grey levels."""
FAR_OUT = 3.0
"""Interquartile ranges above the third quartile (Tukey 1977: "far out")."""
_GLITCH = 3.0
"""A glitch differs so many times more from the pictures before and after it than they do from each other."""
_GLITCH_LEAST = 1.0
"""In standard deviations: less than this is a movement."""
_NEIGHBOURS = 3
_CHUNK = 512


def features(looks: Looks) -> Floats:
    """Return float32 (n, d) in which distance means difference.

    Light (brightness and contrast), motion, colours and edges count the same: each group is divided by its
    own standard deviation. The last column is the motion.
    """
    light = np.stack([looks.brightness, looks.contrast], axis=1)
    groups = [_scaled(group) for group in (light, looks.colours, looks.edges, looks.motion[:, None])]
    return np.concatenate(groups, axis=1)


def glitches(features: Floats) -> Mask:
    """Return which pictures of one clip, in order, are unlike those before and after, which are alike.

    Motion does not count: something that rushes past is no glitch.
    """
    features, found = features[:, :-1], np.zeros(len(features), bool)
    if len(features) < 3:
        return found
    step = np.linalg.norm(np.diff(features, axis=0), axis=1)
    across = np.linalg.norm(features[2:] - features[:-2], axis=1)
    alone = np.minimum(step[:-1], step[1:])
    found[1:-1] = (alone > _GLITCH_LEAST) & (alone > _GLITCH * across)
    return found


def loners(features: Floats) -> Mask:
    """Return which of unrelated pictures are far out: the distance to their third neighbour is an outlier."""
    if len(features) <= 2 * _NEIGHBOURS:
        return np.zeros(len(features), bool)
    away = np.concatenate(
        [
            np.partition(_distances(features[at : at + _CHUNK], features), _NEIGHBOURS, axis=1)[
                :, _NEIGHBOURS
            ]
            for at in range(0, len(features), _CHUNK)
        ]
    )
    low, high = np.quantile(away, (0.25, 0.75))
    far: Mask = away > high + FAR_OUT * (high - low)
    return far


def choose(
    features: Floats, blocks: NDArray[np.uint8], count: int, *, apart_from: NDArray[np.uint8] | None = None
) -> tuple[Rows, Mask]:
    """Return at most `count` rows in the order in which they were chosen, and which rows are near-duplicates.

    The first half lies evenly in the order of the rows: what is usual stays usual. Each further one lies
    farthest from all before it (Gonzalez 1985, farthest-point clustering), so that what is rare is there too.
    A near-duplicate of a chosen one, or of a picture in `apart_from` (m, rows, columns), is never chosen.
    """
    flat = _flat(blocks)
    free = np.ones(len(blocks), bool) if apart_from is None else ~_in_both(flat, _flat(apart_from))
    away = np.full(len(blocks), np.inf, np.float32)
    chosen: list[int] = []

    def take(row: int) -> None:
        chosen.append(row)
        np.logical_and(free, ~_same(flat, flat[row]), out=free)
        np.minimum(away, np.linalg.norm(features - features[row], axis=1), out=away)

    for stretch in np.array_split(np.flatnonzero(free), max(1, count // 2)):
        left = stretch[free[stretch]]
        if len(left):
            take(int(left[len(left) // 2]))
    while len(chosen) < count and free.any():
        take(int(np.where(free, away, -1).argmax()))
    taken = np.array(chosen, np.int64)
    same = ~free
    same[taken] = False
    return taken, same


def spread(features: Floats, chosen: Rows) -> Floats:
    """Return how far each picture is from the nearest chosen one: what a choice leaves uncovered."""
    nearest: Floats = _distances(features, features[chosen]).min(axis=1)
    return nearest


def _scaled(group: Floats) -> Floats:
    centred = group - group.mean(axis=0)
    deviation = float(np.sqrt(np.square(centred, dtype=np.float64).sum(axis=1).mean()))
    return (centred / np.float32(deviation)).astype(np.float32) if deviation > 0 else np.zeros_like(centred)


def _distances(some: Floats, all_: Floats) -> Floats:
    squares = np.square(some).sum(axis=1)[:, None] + np.square(all_).sum(axis=1)
    found: Floats = np.sqrt(np.maximum(squares - 2 * (some @ all_.T), np.float32(0)))
    return found


def _flat(blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return blocks.reshape(len(blocks), blocks.shape[1] * blocks.shape[2])


def _same(flat: NDArray[np.uint8], one: NDArray[np.uint8]) -> Mask:
    same: Mask = np.abs(flat.astype(np.int16) - one.astype(np.int16)).max(axis=1) <= SAME_LEVELS
    return same


def _in_both(flat: NDArray[np.uint8], others: NDArray[np.uint8]) -> Mask:
    """Return which rows of `flat` have a near-duplicate in `others`.

    Only those of nearly the same mean are compared: means differ by no more than the blocks that they are of.
    """
    found = np.zeros(len(flat), bool)
    means = others.mean(axis=1)
    order = np.argsort(means, kind="stable")
    others, means = others[order], means[order]
    for row, one in enumerate(flat):
        first, end = np.searchsorted(means, (one.mean() - SAME_LEVELS, one.mean() + SAME_LEVELS))
        found[row] = bool(_same(others[first:end], one).any()) if end > first else False
    return found
