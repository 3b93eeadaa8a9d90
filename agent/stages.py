"""What is done for a camera's frames around the engine, up to its reports; and their end when it is lost."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.histogram import Histogram
from agent.recent import Recent
from agent.wire import FrameFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from agent import wire
    from agent.messages import Event, Frame, Geometry, ModelInput
    from agent.pipeline import ModelSide, Pipeline, Result
    from agent.reporting import EventReporter

_LOOK_EVERY = 16
"""One frame in so many is looked at for numbers that are none, the first of a model included."""
CAMERA_LOST = "camera_lost"
"""The reason of the ends of a camera that can't be trusted."""


class CameraStages:
    """What is done for a frame around the engine: the pipeline, then everyone who wants its result.

    `prepare` and `finish` are called by one thread, the others by any.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        reporter: EventReporter,
        recorders: Sequence[Callable[[Result], None]] = (),
    ) -> None:
        self._pipeline = pipeline
        self._reporter = reporter
        self._recorders = recorders
        self._last: tuple[FrameFacts, float] | None = None
        self._lock = threading.Lock()
        self._lost = False
        self._untold: deque[tuple[FrameFacts, float, list[Event]]] = deque()
        self._watchful = False
        self.inferred = self.suppressed = 0
        self.events = 0
        self.not_finite = self._unlooked = 0
        self.age, self.recent_age = Histogram(), Recent()

    def watchful(self) -> bool:
        """Tell whether something is there that moves, or was not found in the last frame; from any thread."""
        return self._watchful

    def exchange(self, side: ModelSide, model: wire.Model) -> None:
        """Go on with another engine, that of `model`; no frame may be between `prepare` and `finish`.

        Events of labels that it does not know end here, and are told as those of the model before.
        """
        with self._lock:
            self._tell_ends(self._pipeline.exchange(side))
            self._reporter.model = model
            self.not_finite = self._unlooked = 0

    def prepare(self, frame: Frame) -> ModelInput:
        """Convert the frame for the engine. Raises AgentError for a picture that can't be."""
        return self._pipeline.prepare(frame)

    def finish(self, frame: Frame, geometry: Geometry, outputs: Sequence[NDArray[Any]]) -> None:
        """Decide on the frame, and report; one of a camera that was lost meanwhile is suppressed. Raises AgentError."""
        with self._lock:
            if self._lost:
                self.suppressed += 1
                return
            self._tell()
            if self._unlooked % _LOOK_EVERY == 0:
                self.not_finite += not _finite(outputs)
            self._unlooked += 1
            result = self._pipeline.finish(frame, geometry, outputs)
            facts = FrameFacts.of(frame)
            self._last = facts, frame.time_s
            self._watchful = self._pipeline.watchful
            self.inferred += 1
            self.events += len(result.events)
            for record in self._recorders:
                record(result)
            self._reporter.report(facts, frame.time_s, result.events, self._pipeline.counts())
            now_s = time.monotonic()
            self.age.observe(now_s - frame.captured_s)
            self.recent_age.observe(now_s - frame.captured_s, now_s)

    def lose(self, now_s: float) -> None:
        """End every open event, once, for the camera can't be trusted; finish no frame until `find`."""
        with self._lock:
            if not self._lost:
                self._end(CAMERA_LOST, now_s)
                self._lost = True
            self._tell()

    def find(self) -> None:
        """Go on: the camera is trusted again."""
        self._lost = False

    def close(self, reason: str) -> None:
        """End every open event at the time of the last frame."""
        with self._lock:
            self._end(reason)
            self._tell()

    def _end(self, reason: str, now_s: float | None = None) -> None:
        if self._last is None:
            return
        facts, time_s = self._last
        time_s = time_s if now_s is None else max(now_s, time_s)
        events = self._pipeline.close(time_s, reason)
        self._watchful = False
        self.events += len(events)
        self._untold.extend((facts, time_s, [event]) for event in events)
        if not events:
            self._untold.append((facts, time_s, []))

    def _tell_ends(self, events: list[Event]) -> None:
        """Report the ends that another model brings about."""
        if events and self._last is not None:
            facts, time_s = self._last
            self.events += len(events)
            self._untold.append((facts, time_s, events))
        self._tell()

    def _tell(self) -> None:
        """Report the ends; what could not be is kept for the next time."""
        while self._untold:
            self._reporter.report(*self._untold[0], self._pipeline.counts())
            self._untold.popleft()


def _finite(outputs: Sequence[NDArray[Any]]) -> bool:
    return all(bool(np.isfinite(each).all()) for each in outputs if each.dtype.kind == "f")
