"""The chain of one camera for one frame: prepare -> (engine) -> decode -> track -> events. No threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from agent.decode import Decoder
    from agent.events import EventMachine
    from agent.messages import Detections, Event, Frame, Geometry, ModelInput, Tracks
    from agent.preprocess import Preprocessor
    from agent.tracker import Tracker, TrackerOptions


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What one inferred frame came to; detections are raw: in masks too, down to the pipeline's score floor."""

    frame: Frame
    detections: Detections
    tracks: Tracks
    events: list[Event]


@dataclass(frozen=True, slots=True, eq=False)
class ModelSide:
    """What of a camera's chain depends on the model and its engine.

    `min_score` is the lowest score that `decoder` lets through, `threshold` the model's own. `moves` is False
    where boxes are always the whole frame (a classifier's).
    """

    preprocess: Preprocessor
    decoder: Decoder
    min_score: float
    labels: tuple[str, ...]
    threshold: float
    tracking: TrackerOptions
    moves: bool


class Pipeline:
    """Everything between a decoded frame and its events but the engine, which runs between the two calls.

    `keep` (xyxy (n, 4) -> bool (n,)) says which boxes count at all: what lies in a mask is not even tracked.
    """

    def __init__(
        self,
        *,
        side: ModelSide,
        tracker: Tracker,
        events: EventMachine,
        keep: Callable[[NDArray[np.float32]], NDArray[np.bool_]] | None = None,
    ) -> None:
        self._side = side
        self._tracker = tracker
        self._events = events
        self._keep = keep

    def exchange(self, side: ModelSide) -> list[Event]:
        """Go on with another engine or model; no frame may be between `prepare` and `finish`.

        Objects keep their tracks and events by the names of their labels. Returns the ends of those that the new
        model does not know.
        """
        before, self._side = self._side, side
        where = {label: class_id for class_id, label in enumerate(side.labels)}
        classes = {old: where[label] for old, label in enumerate(before.labels) if label in where}
        self._tracker.exchange(side.tracking, classes)
        return self._events.exchange(side.labels, side.threshold, classes, moves=side.moves)

    def prepare(self, frame: Frame) -> ModelInput:
        """Convert `frame` for the engine: the only full-frame work of the chain."""
        return self._side.preprocess(frame.picture)

    def finish(self, frame: Frame, geometry: Geometry, outputs: Sequence[NDArray[Any]]) -> Result:
        """Turn the engine's `outputs` for `frame` into events. Frames come in the order of their time."""
        raw = self._side.decoder(outputs)
        detections = counting = on_frame(raw, geometry)
        if self._keep is not None and len(detections):
            counting = detections[self._keep(detections.xyxy)]
        width, height = frame.size
        aspect = width / height
        tracks = self._tracker.update(counting, frame.time_s, aspect=aspect)
        events = self._events.update(tracks, frame.time_s, aspect=aspect)
        return Result(frame, detections, tracks, events)

    @property
    def watchful(self) -> bool:
        """Something is there that moves, or was not found in the last frame: the next frame matters."""
        return self._events.watchful

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return (objects present, those of them that move) per label, as of the last frame."""
        return self._events.counts()

    def close(self, now_s: float, reason: str) -> list[Event]:
        """End every open event."""
        return self._events.close(now_s, reason)


def on_frame(raw: Detections, geometry: Geometry) -> Detections:
    """Map boxes from the model input to the frame; those that lie outside of it (in the padding) go."""
    xyxy = geometry.to_frame(raw.xyxy)
    inside = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    detections = type(raw)(xyxy, raw.score, raw.class_id)
    return detections if inside.all() else detections[inside]
