"""Where in the picture something stands: named zones, and masks where nothing counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Polygon = tuple[tuple[float, float], ...]
"""Corners x, y as fractions 0..1 of the frame, in order; closed by itself."""

_INSIDE_EDGE = 1.0 - 1e-6  # what is cut off by the frame's edge stands within a polygon that ends there


class Zones:
    """Named polygons; `zones` holds (name, polygon, labels), and no labels mean every label."""

    def __init__(self, zones: Sequence[tuple[str, Polygon, Sequence[str]]]) -> None:
        self._zones = [(name, polygon, frozenset(labels)) for name, polygon, labels in zones]

    def names(self, xyxy: NDArray[np.float32], labels: Sequence[str]) -> list[tuple[str, ...]]:
        """Return for each of the boxes (n, 4) with its label the zones it stands in, in their order."""
        found: list[tuple[str, ...]] = [()] * len(labels)
        if not len(labels):
            return found
        feet = foot_points(xyxy)
        for name, polygon, wanted in self._zones:
            for i in np.flatnonzero(inside(feet, polygon)).tolist():
                if not wanted or labels[i] in wanted:
                    found[i] += (name,)
        return found


class Masks:
    """Polygons where nothing counts."""

    def __init__(self, polygons: Sequence[Polygon]) -> None:
        self._polygons = tuple(polygons)

    def keep(self, xyxy: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Tell for each of the boxes (n, 4) whether it stands outside of every mask: bool (n,)."""
        kept = np.ones(len(xyxy), np.bool_)
        if self._polygons and len(xyxy):
            feet = foot_points(xyxy)
            for polygon in self._polygons:
                kept &= ~inside(feet, polygon)
        return kept


def foot_points(xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the middle of the lower edge of each box (n, 4): float32 (n, 2), where it meets the ground."""
    feet: NDArray[np.float32] = np.stack([(xyxy[:, 0] + xyxy[:, 2]) / 2, xyxy[:, 3]], axis=1)
    return feet.clip(0.0, _INSIDE_EDGE)


def inside(points: NDArray[np.float32], polygon: Polygon) -> NDArray[np.bool_]:
    """Tell which of the points (n, 2) lie in `polygon`, by the even-odd rule (Shimrat 1962): bool (n,)."""
    corners = np.asarray(polygon, np.float64)
    x1, y1 = corners.T
    x2, y2 = np.roll(corners, -1, axis=0).T
    x, y = points[:, :1].astype(np.float64), points[:, 1:].astype(np.float64)
    spans = (y1 <= y) != (y2 <= y)  # half-open: a corner counts for one of its two edges
    slope = (x2 - x1) / np.where(y2 == y1, 1.0, y2 - y1)
    crossed = spans & (x < x1 + (y - y1) * slope)
    result: NDArray[np.bool_] = crossed.sum(axis=1) % 2 == 1
    return result
