"""Detections written down shortly."""

from __future__ import annotations

import numpy as np

from agent.messages import Detections


def found(*boxes: tuple[float, float, float, float, float, int]) -> Detections:
    """Return detections of rows x1, y1, x2, y2, score, class."""
    table = np.array(boxes, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4].copy(), table[:, 5].astype(np.int32))


def a_box(left: float, score: float, class_id: int = 0) -> tuple[float, float, float, float, float, int]:
    """Return a row: a box of 0.1 x 0.2 whose left edge is at `left`."""
    return left, 0.4, left + 0.1, 0.6, score, class_id
