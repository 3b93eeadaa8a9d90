"""Boxes of two sets of detections, paired by place and class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.messages import Detections


def pairs(
    a: Detections, b: Detections, least_iou: float, *, allowed: NDArray[np.bool_] | None = None
) -> list[tuple[int, int]]:
    """Return pairs of boxes of one class, each box once: the best of `a` choose first, what overlaps most.

    `allowed` (len(a), len(b)) says which may be paired at all.
    """
    overlap = overlaps(a.xyxy, b.xyxy) * (a.class_id[:, None] == b.class_id)
    if allowed is not None:
        overlap *= allowed
    found = []
    for i in np.argsort(-a.score, kind="stable"):
        j = int(overlap[i].argmax()) if len(b) else 0
        if len(b) and overlap[i, j] >= least_iou:
            found.append((int(i), j))
            overlap[:, j] = 0
    return found


def overlaps(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the IoU of each box of `a` (n, 4) with each of `b` (m, 4): (n, m)."""
    low, high = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2, dtype=np.float64)
    area_a, area_b = ((box[:, 2:] - box[:, :2]).prod(axis=1, dtype=np.float64) for box in (a, b))
    union = area_a[:, None] + area_b - common
    iou: NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return iou
