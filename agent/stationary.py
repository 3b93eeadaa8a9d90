"""What stays in its place, and what was there before: a parked car is no news each time it is found again."""

from __future__ import annotations

from math import hypot, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.messages import Box

_MOVED = 0.5  # sizes (square root of the area) off its place: more than a half-hidden object's box shifts
_SIGHTINGS = 2  # in a row, before something still counts as moving: one bad box is no movement
_SAME_PLACE_IOU = 0.5
_MOST_PLACES = 256


class Stillness:
    """Follows one object: `still` once it has kept its place for `stationary_s`."""

    def __init__(self, box: Box, now_s: float, *, stationary_s: float) -> None:
        self.still = False
        self._stationary_s = stationary_s
        self._anchor, self._since_s, self._off = box, now_s, 0

    def settle(self) -> None:
        """Take it as still, where it is: it was so before."""
        self.still = True

    def see(self, box: Box, now_s: float, *, aspect: float) -> None:
        """Note where the object is now; `aspect` is width / height of the picture."""
        self._off = self._off + 1 if self._moved(box, aspect) else 0
        if self._off >= (_SIGHTINGS if self.still else 1):
            self.still, self._anchor, self._since_s, self._off = False, box, now_s, 0
        elif now_s - self._since_s >= self._stationary_s:
            self.still = True

    def _moved(self, box: Box, aspect: float) -> bool:
        x1, y1, x2, y2 = self._anchor
        dx, dy = (box[0] + box[2] - x1 - x2) / 2, (box[1] + box[3] - y1 - y2) / 2
        return hypot(dx * aspect, dy) > _MOVED * sqrt((x2 - x1) * (y2 - y1) * aspect)


class Memory:
    """Places where something still was lost, for `keep_s` after it was last seen; the oldest of 256 go first.

    An object that leaves moves, and so is not still when it is lost: only what vanished where it stood is
    kept.
    """

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._places: list[tuple[str, Box, float]] = []

    def remember(self, label: str, box: Box, seen_s: float) -> None:
        """Note that a still object was last seen in `box`."""
        self._places = [*self._places[1 - _MOST_PLACES :], (label, box, seen_s)]

    def recall(self, label: str, box: Box, now_s: float) -> bool:
        """Tell whether what is found in `box` was there before; if so the place is given up to it."""
        self._places = [place for place in self._places if now_s - place[2] < self._keep_s]
        overlaps = [iou(place[1], box) if place[0] == label else 0.0 for place in self._places]
        best = max(range(len(overlaps)), key=overlaps.__getitem__, default=-1)
        if best < 0 or overlaps[best] < _SAME_PLACE_IOU:
            return False
        del self._places[best]
        return True

    def rewind(self, now_s: float) -> None:
        """Take nothing as seen later than `now_s`: the clock was set back."""
        self._places = [(label, box, min(seen_s, now_s)) for label, box, seen_s in self._places]


def iou(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes, 0..1."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    shared = wide * high
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
