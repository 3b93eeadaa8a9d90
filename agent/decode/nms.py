"""Greedy non-maximum suppression, class by class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from agent.messages import Detections

TOP_CANDIDATES = 300
TOP_DETECTIONS = 100


def best(detections: Detections, count: int) -> Detections:
    """Return the `count` best by falling score; of equal scores the earlier row comes first."""
    return detections[np.argsort(-detections.score, kind="stable")[:count]]


def nms(
    detections: Detections,
    iou_threshold: float,
    *,
    top_candidates: int = TOP_CANDIDATES,
    top_detections: int = TOP_DETECTIONS,
) -> Detections:
    """Return by falling score the boxes with no better one of their class at an IoU above `iou_threshold`.

    The `top_candidates` best go in, `top_detections` at most come out. One pass of NumPy over all pairs gives
    each box the set of those it suppresses, as the bits of an int; the greedy walk is integer arithmetic.
    """
    ranked = best(detections, top_candidates)
    if len(ranked) < 2:
        return ranked[:top_detections]
    x1, y1, x2, y2 = np.ascontiguousarray(ranked.xyxy.T)
    width = np.minimum(x2[:, None], x2) - np.maximum(x1[:, None], x1)
    height = np.minimum(y2[:, None], y2) - np.maximum(y1[:, None], y1)
    overlap = np.maximum(width, 0) * np.maximum(height, 0)
    area = (x2 - x1) * (y2 - y1)
    suppresses = overlap > np.float32(iou_threshold) * (area[:, None] + area - overlap)
    suppresses &= ranked.class_id[:, None] == ranked.class_id
    packed = np.packbits(suppresses, axis=1, bitorder="little")
    kept: list[int] = []
    gone = 0
    for row in range(len(ranked)):
        if not gone >> row & 1:
            kept.append(row)
            gone |= int.from_bytes(packed[row].tobytes(), "little")
    return ranked[np.array(kept[:top_detections])]
