"""How far a candidate's detections agree with a reference's, without labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.matching import Matches, match
from calibration.pairs import pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from agent.messages import Detections

MIN_SCORE = 0.01
"""Candidates are ranked down to this."""
DOUBTFUL = 0.1
"""Boxes of the reference from here up to its threshold: found again or not, they count neither way."""
_IOU = np.array([0.5])
_SIDE_PX = 1000.0
"""Fractions are scored as pixels of a square picture: IoU does not change when an axis is stretched."""
_AREA_LEFT_OUT = -1.0
"""pycocotools leaves boxes of the truth whose area is out of range out of the count, and what matches them."""


Statistic = Callable[["NDArray[np.float64]"], float]
"""A figure of all frames, by how often each of them counts, (frames,)."""


def agreement(reference: Sequence[Detections], candidate: Sequence[Detections], *, threshold: float) -> float:
    """Return how far `candidate` finds what `reference` finds, and nothing else, 0..1; nan if that is nothing.

    Both frame by frame, with all that they score MIN_SCORE or so; `threshold` is the score from which the model
    is used. The lesser of two: average precision at IoU 0.5, see `agreement_matches`, which tells by the ranking
    of the boxes whether they are found, but not how high they score; and F1 of what is told at the threshold,
    see `f1`, which tells lost and invented boxes of every class.
    """
    return agreement_statistic(reference, candidate, threshold=threshold)(np.ones(len(reference)))


def agreement_statistic(
    reference: Sequence[Detections], candidate: Sequence[Detections], *, threshold: float
) -> Statistic:
    """Return `agreement` of any weighting of the frames."""
    matches = agreement_matches(reference, candidate, threshold=threshold)
    share = _f1(reference, candidate, threshold, DOUBTFUL)
    return lambda weight: float(np.minimum(matches.precision(weight)[0], share(weight)))


def f1(
    reference: Sequence[Detections],
    candidate: Sequence[Detections],
    *,
    threshold: float,
    doubtful: float = DOUBTFUL,
) -> float:
    """Return F1 = 2 TP / (2 TP + FN + FP) of what both tell at `threshold`, of every class, at IoU 0.5.

    A box is found again by one that scores `threshold` too, or as much less than the box as `doubtful` lies below
    `threshold`: a score may wander across the threshold, but not fall from the top. nan where nothing is told.
    """
    statistic = _f1(reference, candidate, threshold, doubtful)
    return statistic(np.ones(len(reference)))


def agreement_matches(
    reference: Sequence[Detections], candidate: Sequence[Detections], *, threshold: float
) -> Matches:
    """Match `candidate` to `reference`, frame by frame, for average precision at IoU 0.5 of any weighting of frames.

    The truth is what the reference scores `threshold`, as in use; what it scores less, down to DOUBTFUL, is no
    fault of a candidate that scores it a little more.
    """
    if len(reference) != len(candidate):
        raise ValueError(f"{len(reference)} frames of the reference, {len(candidate)} of the candidate")
    sure = as_boxes([found[found.score >= threshold] for found in reference])
    unsure = [found[(found.score < threshold) & (found.score >= DOUBTFUL)] for found in reference]
    classes = {box["category_id"] for box in sure}
    doubtful = [{**box, "area": _AREA_LEFT_OUT} for box in as_boxes(unsure) if box["category_id"] in classes]
    ranked = as_boxes([found[found.score >= MIN_SCORE] for found in candidate])
    return match(sure + doubtful, ranked, range(len(reference)), _IOU)


def _f1(
    reference: Sequence[Detections], candidate: Sequence[Detections], threshold: float, doubtful: float
) -> Statistic:
    slack = max(0.0, threshold - doubtful)
    told = np.array([float((found.score >= threshold).sum()) for found in reference])
    both = list(zip(reference, candidate, strict=True))
    lost = np.array([_unmet(a, b, threshold, slack) for a, b in both])
    invented = np.array([_unmet(b, a, threshold, slack) for a, b in both])
    twice = 2 * (told - lost)

    def ratio(weight: NDArray[np.float64]) -> float:
        whole = float(weight @ (twice + lost + invented))
        return float(weight @ twice) / whole if whole else float("nan")

    return ratio


def _unmet(told: Detections, others: Detections, threshold: float, slack: float) -> float:
    """Return how many boxes scored `threshold` in `told` have no partner in `others`, see `f1`."""
    sure = told[told.score >= threshold]
    enough = others.score >= np.minimum(threshold, sure.score[:, None] - slack)
    return float(len(sure) - len(pairs(sure, others, float(_IOU[0]), allowed=enough)))


def as_boxes(frames: Sequence[Detections]) -> list[dict[str, Any]]:
    """Return the boxes of all frames as COCO has them; image_id is the frame's number."""
    return [
        {
            "image_id": frame,
            "category_id": int(class_id),
            "bbox": [x1 * _SIDE_PX, y1 * _SIDE_PX, (x2 - x1) * _SIDE_PX, (y2 - y1) * _SIDE_PX],
            "score": float(score),
        }
        for frame, found in enumerate(frames)
        for (x1, y1, x2, y2), score, class_id in zip(
            found.xyxy.tolist(), found.score, found.class_id, strict=True
        )
    ]
