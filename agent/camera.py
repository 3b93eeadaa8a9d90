"""One camera's two ends: the capture loop in front of its mailbox, the stages behind it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from agent.priority import NICE_CAPTURE, be_nice
from agent.sampling import luma_of
from agent.wire import FrameFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from agent.capture import FrameSource
    from agent.mailbox import Mailbox
    from agent.messages import Frame, Geometry, ModelInput
    from agent.pipeline import Pipeline, Result
    from agent.reporting import EventReporter
    from agent.sampling import Sampler


class Capture:
    """Reads frames, asks the sampler, and leaves what is kept in the mailbox. Runs in a thread of its own."""

    def __init__(self, source: FrameSource, sampler: Sampler, mailbox: Mailbox) -> None:
        self._source = source
        self._sampler = sampler
        self._mailbox = mailbox
        self.not_sampled = 0

    def run(self) -> None:
        """Open the source and read until it ends or is closed; the mailbox is then closed. Raises AgentError."""
        be_nice(NICE_CAPTURE)
        try:
            self._source.open()
            for frame in self._source.frames():
                if self._sampler.keep(frame.time_s, partial(luma_of, frame.picture)):
                    self._mailbox.put(frame)
                else:
                    self.not_sampled += 1
        finally:
            self._mailbox.close()


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
        self.inferred = 0
        self.events = 0

    def prepare(self, frame: Frame) -> ModelInput:
        """Convert the frame for the engine."""
        return self._pipeline.prepare(frame)

    def finish(self, frame: Frame, geometry: Geometry, outputs: Sequence[NDArray[Any]]) -> None:
        """Decide on the frame, and report. Raises AgentError."""
        result = self._pipeline.finish(frame, geometry, outputs)
        facts = FrameFacts.of(frame)
        self._last = facts, frame.time_s
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
