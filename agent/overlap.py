"""Keeps the engine busy: the next frame is prepared and the last one finished while the network runs.

One thread runs the network and nothing else; this loop does the rest. Measured with 1080p H.264 on two cores,
a plain loop reaches half of the engine's own rate, this one nearly all of it (`make bench`).
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from agent.backends import Engine
    from agent.mailbox import Mailbox
    from agent.messages import Frame, Geometry, ModelInput

_SMOOTHING = 0.1
"""Weight of the newest sample in the running means of the stage times."""
_MARGIN_S = 0.002
"""Prepared this much too early rather than too late: an idle engine costs more than a frame 2 ms older."""
_IDLE_WAIT_S = 0.5
"""Longest wait without looking around: a lost wake-up must not be a hang."""


class Stages(Protocol):
    """What is done for a frame before and after the network."""

    def prepare(self, frame: Frame) -> ModelInput:
        """Convert the frame for the engine."""
        ...

    def finish(self, frame: Frame, geometry: Geometry, outputs: Sequence[NDArray[Any]]) -> object:
        """Use the outputs."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    frame: Frame
    stages: Stages
    geometry: Geometry
    outputs: Future[tuple[NDArray[Any], ...]]


@dataclass(slots=True)
class StageTimes:
    """Running means, seconds; 0.0 before the first frame."""

    prepare_s: float = 0.0
    infer_s: float = 0.0
    finish_s: float = 0.0

    @property
    def total_s(self) -> float:
        """From taking a frame to knowing its events."""
        return self.prepare_s + self.infer_s + self.finish_s


class Overlap:
    """Takes frames from the mailboxes of all cameras, longest-waiting camera first, through one engine.

    At most two frames are in work: one in the network and one prepared behind it. On live sources the second
    is taken from its mailbox as late as it can be prepared in time, so that it is the newest; with `eager` (a
    file at full speed, where no frame is dropped) at once.
    """

    def __init__(
        self,
        lanes: Sequence[tuple[Mailbox, Stages]],
        engine: Engine,
        bell: threading.Condition,
        *,
        eager: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lanes = deque(lanes)
        self._engine = engine
        self._bell = bell
        self._eager = eager
        self._clock = clock
        self._jobs: deque[_Job] = deque()
        self._started_s = 0.0
        self.times = StageTimes()

    def run(self) -> None:
        """Work until every mailbox is finished. Raises what a stage or the engine raised."""
        with ThreadPoolExecutor(1, thread_name_prefix="engine") as executor:
            while True:
                if self._jobs and self._jobs[0].outputs.done():
                    self._finish(self._jobs.popleft())
                elif self._may_prepare() and (lane := self._next_lane()):
                    self._submit(executor, *lane)
                elif not self._jobs and all(mailbox.finished for mailbox, _ in self._lanes):
                    return
                else:
                    self._wait()

    def _may_prepare(self) -> bool:
        return len(self._jobs) < 2 and self._prepare_in_s() <= 0

    def _prepare_in_s(self) -> float:
        """Seconds until the next frame should be taken, for the engine to find it ready when it is done."""
        if self._eager or not self._jobs:
            return 0.0
        done_s = self._started_s + self.times.infer_s
        return done_s - self.times.prepare_s - _MARGIN_S - self._clock()

    def _next_lane(self) -> tuple[Mailbox, Stages] | None:
        for _ in range(len(self._lanes)):
            lane = self._lanes[0]
            self._lanes.rotate(-1)
            if lane[0].full:
                return lane
        return None

    def _submit(self, executor: ThreadPoolExecutor, mailbox: Mailbox, stages: Stages) -> None:
        frame = mailbox.take()
        if frame is None:
            return
        begin_s = self._clock()
        prepared = stages.prepare(frame)
        self.times.prepare_s = _mean(self.times.prepare_s, self._clock() - begin_s)
        outputs = executor.submit(self._infer, prepared.tensor)
        outputs.add_done_callback(self._ring)
        self._jobs.append(_Job(frame, stages, prepared.geometry, outputs))

    def _infer(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        self._started_s = begin_s = self._clock()
        outputs = self._engine.infer(tensor)
        self.times.infer_s = _mean(self.times.infer_s, self._clock() - begin_s)
        return outputs

    def _finish(self, job: _Job) -> None:
        begin_s = self._clock()
        job.stages.finish(job.frame, job.geometry, job.outputs.result())
        self.times.finish_s = _mean(self.times.finish_s, self._clock() - begin_s)

    def _ring(self, _: object) -> None:
        with self._bell:
            self._bell.notify_all()

    def _wait(self) -> None:
        with self._bell:
            if self._jobs and self._jobs[0].outputs.done():
                return
            timeout_s = _IDLE_WAIT_S
            if len(self._jobs) < 2:
                if any(mailbox.full for mailbox, _ in self._lanes):
                    timeout_s = self._prepare_in_s()
                elif not self._jobs and all(mailbox.finished for mailbox, _ in self._lanes):
                    return
            if timeout_s > 0:
                self._bell.wait(timeout_s)


def _mean(mean: float, sample: float) -> float:
    return mean + _SMOOTHING * (sample - mean) if mean else sample
