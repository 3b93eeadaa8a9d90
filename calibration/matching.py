"""Boxes found against boxes that should be there: matched as COCO does it, then average precision.

The matching is pycocotools' own (Lin et al. 2014, COCO detection evaluation). What it does not have is average
precision of a resampled set of frames, so the ranking of what was matched is done here, with a weight a frame.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

MOST_BOXES = 100
"""Boxes of one class and frame that count, as COCO."""
_RECALL = np.linspace(0.0, 1.0, 101)
_ANY_SIZE_PX = [0.0, 1e10]
_EPSILON = float(np.spacing(1))


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """All boxes of one class, by falling score.

    `frame` (n,) is the number of each one's frame, `hit` and `ignored` (thresholds, n) how it was matched;
    `expected` (frames,) is how many there should be.
    """

    frame: NDArray[np.intp]
    hit: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    expected: NDArray[np.int64]

    def precision(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return average precision at each threshold, the mean over 101 recalls; `weight` is per frame."""
        total, each = float(weight @ self.expected), weight[self.frame]
        if total <= 0:
            return np.full(len(self.hit), np.nan)
        right = np.cumsum(each * (self.hit & ~self.ignored), axis=1)
        wrong = np.cumsum(each * (~self.hit & ~self.ignored), axis=1)
        share = right / (right + wrong + _EPSILON)
        best_after = np.maximum.accumulate(share[:, ::-1], axis=1)[:, ::-1]
        return np.array(
            [_mean_at_recalls(recall, best) for recall, best in zip(right / total, best_after, strict=True)]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Every class that occurs in the truth, over the same `frames`."""

    classes: Mapping[int, Ranked]
    frames: int

    def at(self, threshold: int) -> Matches:
        """Return the matches at one threshold, by its number, alone."""
        one = slice(threshold, threshold + 1)
        classes = {
            class_id: replace(ranked, hit=ranked.hit[one], ignored=ranked.ignored[one])
            for class_id, ranked in self.classes.items()
        }
        return Matches(classes, self.frames)

    def precision(self, weight: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Return average precision at each threshold, averaged over the classes that occur (nan: none)."""
        weight = np.ones(self.frames) if weight is None else weight
        each = np.array([ranked.precision(weight) for ranked in self.classes.values()])
        there = each[~np.isnan(each[:, 0])] if len(each) else each
        return there.mean(axis=0) if len(there) else np.array([np.nan])


def match(
    truth: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    frames: Sequence[int],
    thresholds: NDArray[np.float64],
    classes: Sequence[int] | None = None,
) -> Matches:
    """Match `found` to `truth` in each of `frames` (image ids) at each IoU of `thresholds`.

    Both are annotations as COCO has them: image_id, category_id, bbox (x, y, w, h) in pixels; the truth with
    area and iscrowd, the found with score. `classes` (category ids) default to those in the truth.
    """
    occurring = sorted({int(box["category_id"]) for box in truth})
    wanted = occurring if classes is None else [c for c in classes if c in set(occurring)]
    rows = _evaluate(truth, found, frames, thresholds, wanted)
    ranked = {
        class_id: _ranked(rows[n * len(frames) : (n + 1) * len(frames)], len(thresholds))
        for n, class_id in enumerate(wanted)
    }
    return Matches({key: value for key, value in ranked.items() if value.expected.any()}, len(frames))


def _evaluate(
    truth: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    frames: Sequence[int],
    thresholds: NDArray[np.float64],
    classes: Sequence[int],
) -> list[dict[str, Any] | None]:
    """Return pycocotools' matches, frames within classes."""
    if not classes:
        return []
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_index(COCO(), truth, frames), _index(COCO(), found, frames), "bbox")
        evaluation.params.imgIds, evaluation.params.catIds = list(frames), list(classes)
        evaluation.params.iouThrs = thresholds
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [_ANY_SIZE_PX], ["all"]
        evaluation.params.maxDets = [MOST_BOXES]
        evaluation.evaluate()
    rows: list[dict[str, Any] | None] = evaluation.evalImgs
    return rows


def _index(coco: Any, boxes: Sequence[Mapping[str, Any]], frames: Sequence[int]) -> Any:
    numbered = [{"id": n, "iscrowd": 0, **box} for n, box in enumerate(boxes, 1)]
    for box in numbered:
        box.setdefault("area", box["bbox"][2] * box["bbox"][3])
    classes = sorted({int(box["category_id"]) for box in boxes})
    coco.dataset = {
        "images": [{"id": frame} for frame in frames],
        "categories": [{"id": class_id} for class_id in classes],
        "annotations": numbered,
    }
    coco.createIndex()
    return coco


def _ranked(rows: Sequence[Mapping[str, Any] | None], thresholds: int) -> Ranked:
    """Return one class of all frames as one ranking; `rows` has None for a frame without any box."""
    seen = [(n, row) for n, row in enumerate(rows) if row is not None]
    expected = np.zeros(len(rows), np.int64)
    for n, row in seen:
        expected[n] = np.count_nonzero(np.asarray(row["gtIgnore"]) == 0)
    nothing = np.zeros((thresholds, 0), bool)
    frame = np.array([n for n, row in seen for _ in row["dtScores"]], np.intp)
    score = np.concatenate([np.zeros(0), *(np.asarray(row["dtScores"], float) for _, row in seen)])
    hit = np.concatenate([nothing, *(np.asarray(row["dtMatches"]) > 0 for _, row in seen)], axis=1)
    ignored = np.concatenate([nothing, *(np.asarray(row["dtIgnore"], bool) for _, row in seen)], axis=1)
    order = np.argsort(-score, kind="stable")
    return Ranked(frame[order], hit[:, order], ignored[:, order], expected)


def _mean_at_recalls(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    at = np.searchsorted(recall, _RECALL, side="left")
    return float(precision[at[at < len(precision)]].sum() / len(_RECALL))
