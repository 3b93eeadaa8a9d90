"""One camera's two ends: the capture loop in front of its mailbox, the stages behind it."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from agent.backoff import LOGIN_WAIT_S
from agent.errors import AgentError, NotPermitted
from agent.luma import luma_of
from agent.priority import NICE_CAPTURE, be_nice
from agent.wire import FrameFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from agent.backoff import Backoff
    from agent.capture import FrameSource
    from agent.mailbox import Mailbox
    from agent.messages import Frame, Geometry, ModelInput
    from agent.pipeline import Pipeline, Result
    from agent.reporting import EventReporter
    from agent.sampling import Sampler

log = logging.getLogger(__name__)

_WORKED_S = 60.0
"""A source that worked for so long is no longer one that fails again and again."""
_RELEASE_S = 1.0
"""How often to look whether a driver that hangs has let its thread go: one, not one more for each try."""


class Capture:
    """Reads frames, asks the sampler, and leaves what is kept in the mailbox. Runs in a thread of its own.

    With `retry` a source that fails is told once and made anew, for ever; without it the fault ends `run`.
    """

    def __init__(
        self,
        name: str,
        new_source: Callable[[], FrameSource],
        sampler: Sampler,
        mailbox: Mailbox,
        *,
        retry: Backoff | None = None,
    ) -> None:
        self._name, self._new_source, self._retry = name, new_source, retry
        self._sampler = sampler
        self._mailbox = mailbox
        self._lock = threading.Lock()
        self._source: FrameSource | None = None
        self._stop = threading.Event()
        self._told, self._opened_s = "", inf
        self.frames = self.not_sampled = self.failures = 0

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second of the source; 0.0 while unknown."""
        source = self._source
        return source.frame_rate_hz if source else 0.0

    @property
    def idle_miss_window_s(self) -> float:
        """How long something can be in view while only key frames are decoded; 0.0 where all are."""
        source = self._source
        return source.stats.miss_window_s if source else 0.0

    def run(self) -> None:
        """Read until the source ends or is closed; the mailbox is then closed. Raises AgentError without retry."""
        be_nice(NICE_CAPTURE)
        try:
            while not self._ended():
                pass
        finally:
            self._mailbox.close()

    def close(self) -> None:
        """End `run` soon; from any thread, before it too."""
        self._stop.set()
        with self._lock:
            if self._source is not None:
                self._source.close()

    def _ended(self) -> bool:
        """Read one source; after a fault wait, and return False for another try. Raises what it met."""
        try:
            self._read()
        except Exception as fault:
            if self._stop.is_set() and isinstance(fault, AgentError):
                return True
            if self._retry is None:
                raise
            self._wait_after(fault, self._retry)
            return self._stop.is_set()
        return True

    def _read(self) -> None:
        with self._lock:
            source = self._source = self._new_source()
        if self._stop.is_set():
            return
        self._mailbox.forgive()
        try:
            source.open()
            self._opened_s = time.monotonic()
            if self._told:
                log.info("camera %s: works again", self._name)
                self._told = ""
            for frame in source.frames():
                if self._sampler.keep(frame.time_s, partial(luma_of, frame.picture)):
                    self._mailbox.put(frame)
                else:
                    self.not_sampled += 1
        finally:
            source.close()
            self.frames += source.stats.frames
            log.debug("camera %s: %s", self._name, source.stats)

    def _wait_after(self, fault: Exception, retry: Backoff) -> None:
        if time.monotonic() - self._opened_s >= _WORKED_S:
            retry.reset()
        self._opened_s = inf
        self.failures += 1
        text = str(fault).removeprefix(f"camera {self._name}: ")
        if not isinstance(fault, AgentError):  # of ours or of a library: the other cameras go on
            text = f"{type(fault).__name__}: {text}"
            log.debug("camera %s: internal error", self._name, exc_info=fault)
        if text != self._told:
            log.warning("camera %s: %s", self._name, text)
            self._told = text
        wait_s = retry.next_s(at_least_s=LOGIN_WAIT_S if isinstance(fault, NotPermitted) else 0.0)
        while not self._stop.wait(wait_s) and self._source is not None and not self._source.released:
            wait_s = _RELEASE_S


class CameraStages:
    """What is done for a frame around the engine: the pipeline, then everyone who wants its result."""

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
        self._watchful = False
        self.inferred = 0
        self.events = 0

    def watchful(self) -> bool:
        """Tell whether something is there that moves, or was not found in the last frame; from any thread."""
        return self._watchful

    def prepare(self, frame: Frame) -> ModelInput:
        """Convert the frame for the engine. Raises AgentError for a picture that can't be."""
        return self._pipeline.prepare(frame)

    def finish(self, frame: Frame, geometry: Geometry, outputs: Sequence[NDArray[Any]]) -> None:
        """Decide on the frame, and report. Raises AgentError."""
        result = self._pipeline.finish(frame, geometry, outputs)
        facts = FrameFacts.of(frame)
        self._last = facts, frame.time_s
        self._watchful = self._pipeline.watchful
        self.inferred += 1
        self.events += len(result.events)
        for record in self._recorders:
            record(result)
        self._reporter.report(facts, frame.time_s, result.events, self._pipeline.counts())

    def close(self, reason: str) -> None:
        """End every open event at the time of the last frame."""
        if self._last is not None:
            facts, time_s = self._last
            events = self._pipeline.close(time_s, reason)
            self.events += len(events)
            self._reporter.report(facts, time_s, events, self._pipeline.counts())
