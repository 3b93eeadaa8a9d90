"""Detections of frame after frame to tracks, in seconds: the same from 1 to 30 Hz and over irregular gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agent import kalman
from agent.messages import Detections, Tracks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from agent.config import Detect

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

_NO_PAIR = np.inf
_LEAST = 1e-6  # side of the smallest box, as a fraction of the frame


@dataclass(frozen=True, slots=True)
class TrackerOptions:
    """Scores decide what carries and what starts a track; lengths are in sizes of the object, sqrt(w * h).

    A detection of `high_score` or more starts a track, at once from `birth_score`, else when it is met
    again at the next frame; down to `low_score` it only carries one on (ByteTrack, arXiv:2110.06864). A
    track dies when unseen for more than `max_age_s` and for two frames. `speed_hz` (sizes per second) is
    the spread of speeds to expect, `keeps_speed_s` for how long objects keep theirs, `jitter` the spread of
    a detector's boxes.
    """

    high_score: float = 0.5
    birth_score: float = 0.6
    low_score: float = 0.4
    max_age_s: float = 2.0
    min_iou: float = 0.3
    weak_iou: float = 0.5
    gate: float = 9.21  # squared Mahalanobis distance: 99 % of a chi-squared of two degrees of freedom
    speed_hz: float = 1.5
    keeps_speed_s: float = 3.0
    jitter: float = 0.1
    size_spread: float = 0.3  # of the logarithm of the size, from frame to frame
    size_gain: float = 0.5  # share of a new box's size that is taken over


def options_for(detect: Detect, default_threshold: float) -> TrackerOptions:
    """Return the options that give the events what they ask for: `default_threshold` is the model's own."""
    default = default_threshold if detect.threshold is None else detect.threshold
    lowest = min([default, *detect.thresholds.values()])
    return TrackerOptions(
        high_score=lowest,
        birth_score=min(lowest + detect.hysteresis, 1.0),
        low_score=max(lowest - detect.hysteresis, 0.0),
        max_age_s=detect.end_after_s,
    )


@dataclass(slots=True)
class _State:
    """Tracks as a struct of arrays, n rows; lengths in frame heights, `centre` to `spread` as in `kalman`."""

    track_id: NDArray[np.int32]
    class_id: NDArray[np.int32]
    score: NDArray[np.float32]
    centre: Floats  # (n, 2)
    speed: Floats  # (n, 2) per second
    size: Floats  # (n, 2)
    spread: Floats  # (n, 3)
    start_s: Floats
    seen_s: Floats
    missed: NDArray[np.int32]  # frames since it was seen
    sure: NDArray[np.bool_]

    def __getitem__(self, index: NDArray[Any]) -> _State:
        return _State(*(getattr(self, name)[index] for name in self.__slots__))

    def __add__(self, other: _State) -> _State:
        return _State(*(np.concatenate([getattr(self, n), getattr(other, n)]) for n in self.__slots__))


class Tracker:
    """Keeps an id on each object: moved on by a speed that fades, matched by overlap and distance."""

    def __init__(self, options: TrackerOptions | None = None) -> None:
        self._options = options or TrackerOptions()
        self._scale = np.ones(2)  # from fractions of the frame to heights of it
        self._next_id = 1
        self._now_s: float | None = None
        self._state = self._born(np.zeros((0, 2)), np.zeros((0, 2)), Detections.empty(), 0.0)

    def update(self, detections: Detections, now_s: float, *, aspect: float = 16 / 9) -> Tracks:
        """Return the tracks as of the frame at `now_s`; boxes without an area in it are ignored.

        `aspect` is width / height of the picture. A step back in time of more than `max_age_s` is another
        recording: every track ends.
        """
        options = self._options
        dt_s = 0.0 if self._now_s is None else now_s - self._now_s
        if dt_s < -options.max_age_s:
            self._state, dt_s = self._state[np.zeros(0, np.intp)], 0.0
        elif dt_s < 0:
            now_s, dt_s = now_s - dt_s, 0.0
        self._now_s = now_s
        self._rescale(aspect)
        detections = _usable(detections, options.low_score)
        low, high = detections.xyxy[:, :2] * self._scale, detections.xyxy[:, 2:] * self._scale
        centre, size = (low + high) / 2, high - low
        self._predict(dt_s)
        rows, columns = self._match(centre, size, detections, dt_s)
        self._state.missed += 1
        self._correct(rows, columns, centre, size, detections, now_s)
        self._forget(now_s)
        fresh = np.ones(len(detections), np.bool_)
        fresh[columns] = False
        fresh &= detections.score >= options.high_score
        if fresh.any():
            self._state += self._born(centre[fresh], size[fresh], detections[fresh], now_s)
        return self._tracks()

    def exchange(self, options: TrackerOptions, classes: Mapping[int, int]) -> None:
        """Go on with another model: `classes` are its class ids by those known so far; tracks of others end."""
        self._options = options
        known = [class_id in classes for class_id in self._state.class_id.tolist()]
        self._state = self._state[np.array(known, np.bool_)]
        renamed = [classes[class_id] for class_id in self._state.class_id.tolist()]
        self._state.class_id = np.array(renamed, np.int32)

    def _rescale(self, aspect: float) -> None:
        if aspect != self._scale[0]:
            for lengths in (self._state.centre, self._state.speed, self._state.size):
                lengths[:, 0] *= aspect / self._scale[0]
            self._scale[0] = aspect

    def _predict(self, dt_s: float) -> None:
        state, options = self._state, self._options
        if dt_s and len(state.score):
            kalman.predict(
                state.centre,
                state.speed,
                state.spread,
                dt_s,
                speed_hz=options.speed_hz,
                keeps_speed_s=options.keeps_speed_s,
            )

    def _match(self, centre: Floats, size: Floats, found: Detections, dt_s: float) -> tuple[Indices, Indices]:
        """Pair tracks with detections, those of high score first."""
        if not len(found) or not len(self._state.score):
            return np.zeros(0, np.intp), np.zeros(0, np.intp)
        cost, iou = self._cost(centre, size, found, dt_s)
        strong = found.score >= self._options.high_score
        rows, columns = assign(np.where(strong, cost, _NO_PAIR))
        if strong.all():
            return rows, columns
        cost[rows] = _NO_PAIR
        cost[(iou < self._options.weak_iou) | strong] = _NO_PAIR
        weak_rows, weak_columns = assign(cost)
        return np.concatenate([rows, weak_rows]), np.concatenate([columns, weak_columns])

    def _cost(self, centre: Floats, size: Floats, found: Detections, dt_s: float) -> tuple[Floats, Floats]:
        """Return how badly each track and detection go together, infinite where they can't, and their IoU."""
        options, state = self._options, self._state
        wide, high = state.size[:, :1], state.size[:, 1:]
        area, areas = wide * high, size[:, 0] * size[:, 1]
        dx = np.abs(state.centre[:, :1] - centre[:, 0])
        dy = np.abs(state.centre[:, 1:] - centre[:, 1])
        shared = _overlap(dx, wide, size[:, 0]) * _overlap(dy, high, size[:, 1])
        iou = shared / (area + areas - shared)
        distance = (dx * dx + dy * dy) / ((state.spread[:, :1] + options.jitter**2) * area)
        growth = np.square(np.log(areas / area) / (2.0 * options.size_spread))
        possible = iou >= options.min_iou
        if dt_s <= options.max_age_s:  # after a longer gap only what stayed in its place is known again
            possible |= np.maximum(distance, growth) <= options.gate
        possible &= state.class_id[:, None] == found.class_id
        return np.where(possible, 1.0 - iou + (distance + growth) / options.gate, _NO_PAIR), iou

    def _correct(
        self, rows: Indices, columns: Indices, centre: Floats, size: Floats, found: Detections, now_s: float
    ) -> None:
        """Take over what was measured: place and speed by the filter, a running mean of the size."""
        if not len(rows):
            return
        state, jitter = self._state, self._options.jitter
        kalman.correct(state.centre, state.speed, state.spread, rows, centre[columns], jitter=jitter)
        state.size[rows] += self._options.size_gain * (size[columns] - state.size[rows])
        state.score[rows] = found.score[columns]
        state.seen_s[rows] = now_s
        state.missed[rows] = 0
        state.sure[rows] = True

    def _forget(self, now_s: float) -> None:
        """Let go of the unseen tracks that are too old, were not met a second time, or left the picture."""
        state = self._state
        ends = (state.missed >= 2) & (now_s - state.seen_s > self._options.max_age_s)
        ends |= (state.centre < 0.0).any(axis=1) | (state.centre > self._scale).any(axis=1)
        ends |= ~state.sure
        ends &= state.missed > 0
        if ends.any():
            self._state = state[~ends]

    def _born(self, centre: Floats, size: Floats, found: Detections, now_s: float) -> _State:
        n, options = len(found), self._options
        first, self._next_id = self._next_id, self._next_id + n
        return _State(
            track_id=np.arange(first, first + n, dtype=np.int32),
            class_id=found.class_id,
            score=found.score,
            centre=centre,
            speed=np.zeros((n, 2)),
            size=size,
            spread=kalman.measured_once(n, jitter=options.jitter, speed_hz=options.speed_hz),
            start_s=np.full(n, now_s),
            seen_s=np.full(n, now_s),
            missed=np.zeros(n, np.int32),
            sure=found.score >= options.birth_score,
        )

    def _tracks(self) -> Tracks:
        state = self._state[self._state.sure]
        half = state.size / 2
        xyxy = np.concatenate(
            [(state.centre - half) / self._scale, (state.centre + half) / self._scale], axis=1
        )
        return Tracks(
            track_id=state.track_id,
            xyxy=xyxy.clip(0.0, 1.0).astype(np.float32),
            score=state.score,
            class_id=state.class_id,
            matched=state.missed == 0,
            start_s=state.start_s,
            seen_s=state.seen_s,
        )


def assign(cost: Floats) -> tuple[Indices, Indices]:
    """Pair rows with columns of `cost` (n, m), cheapest pair first; infinite ones never. Rows, columns."""
    rows, columns = np.nonzero(np.isfinite(cost))
    order = np.argsort(cost[rows, columns], kind="stable")
    free_rows, free_columns, pairs = set(rows.tolist()), set(columns.tolist()), []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row in free_rows and column in free_columns:
            free_rows.remove(row)
            free_columns.remove(column)
            pairs.append((row, column))
    paired = np.array(pairs, np.intp).reshape(-1, 2)
    return paired[:, 0], paired[:, 1]


def _overlap(apart: Floats, length: Floats, lengths: Floats) -> Floats:
    """Return how much of each other two spans cover whose centres are `apart`."""
    shared: Floats = np.minimum(np.minimum(length, lengths), (length + lengths) / 2 - apart)
    return np.maximum(shared, 0.0, out=shared)


def _usable(found: Detections, low_score: float) -> Detections:
    """Clip boxes to the frame; leave out what is too weak, not a number, or has no area in it."""
    xyxy = found.xyxy.clip(0.0, 1.0)
    x1, y1, x2, y2 = xyxy.T
    usable = (found.score >= low_score) & (x2 - x1 > _LEAST) & (y2 - y1 > _LEAST)
    return Detections(xyxy[usable], found.score[usable], found.class_id[usable])
