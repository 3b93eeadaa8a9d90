"""What a user would notice of a worse network: scores that shift, labels that change, boxes that flicker."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calibration.agreement import DOUBTFUL
from calibration.bootstrap import Figure, share
from calibration.pairs import overlaps, pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from agent.messages import Detections

SAME_PLACE_IOU = 0.5
"""Two networks' boxes of one object, on the same frame."""
NEXT_PLACE_IOU = 0.3
"""One object's boxes on two frames in a row: it may have moved."""
NEXT_S = 0.5
"""Frames of a clip that are farther apart say nothing about flicker."""

MIN_STEPS = 20
"""Steps from a frame to the next; fewer say nothing about flicker."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Which clip a frame is of, and when."""

    clip: str
    pts_s: float


def score_shift(
    reference: Sequence[Detections], candidate: Sequence[Detections], *, threshold: float
) -> Figure | None:
    """Return by how much `candidate` scores the reference's boxes (at `threshold` or above) higher, in the mean.

    Over those that it has too, in the same place with the same label; None when there are none.
    """
    shifts = [_shifts(sure(a, threshold), b) for a, b in zip(reference, candidate, strict=True)]
    return share(np.array([s.sum() for s in shifts]), np.array([float(len(s)) for s in shifts]))


def label_flips(
    reference: Sequence[Detections], candidate: Sequence[Detections], *, threshold: float
) -> Figure | None:
    """Return which share of the reference's boxes `candidate` has in the same place with other labels only."""
    found = [_flips(sure(a, threshold), b) for a, b in zip(reference, candidate, strict=True)]
    flipped, seen = np.array(found, np.float64).reshape(-1, 2).T
    return share(flipped, seen)


def flicker(frames: Sequence[Detections], moments: Sequence[Moment], *, threshold: float) -> Figure | None:
    """Return which share of boxes has no partner in the frame before or after it.

    Only frames in a row of one clip, NEXT_S apart at most, are looked at; None when there are fewer than MIN_STEPS.
    """
    alone, boxes = [], []
    for i, j in itertools.pairwise(range(len(frames))):
        if moments[i].clip == moments[j].clip and 0 < moments[j].pts_s - moments[i].pts_s <= NEXT_S:
            before, after = sure(frames[i], threshold), sure(frames[j], threshold)
            paired = len(pairs(before, after, NEXT_PLACE_IOU))
            boxes.append(float(len(before) + len(after)))
            alone.append(boxes[-1] - 2 * paired)
    return share(np.array(alone), np.array(boxes)) if len(boxes) >= MIN_STEPS else None


def sure(found: Detections, threshold: float) -> Detections:
    """Return what scores at least `threshold`."""
    return found[found.score >= threshold]


def _shifts(reference: Detections, candidate: Detections) -> NDArray[np.float64]:
    same = pairs(reference, sure(candidate, DOUBTFUL), SAME_PLACE_IOU)
    return np.array([float(candidate.score[j] - reference.score[i]) for i, j in same], np.float64)


def _flips(reference: Detections, candidate: Detections) -> tuple[int, int]:
    """Return how many boxes of `reference` have changed their label, and how many are there at all."""
    place = overlaps(reference.xyxy, sure(candidate, DOUBTFUL).xyxy) >= SAME_PLACE_IOU
    same = reference.class_id[:, None] == sure(candidate, DOUBTFUL).class_id
    there = place.any(axis=1)
    return int((there & ~(place & same).any(axis=1)).sum()), int(there.sum())
