"""Keeps the engine busy: the next frame is prepared and the last one finished while the network runs.

One thread runs the network and nothing else; this loop does the rest. Measured with 1080p H.264 on two cores, a
plain loop reaches half of the engine's own rate, this one 0.84 to 0.98 of it, by clip and run (`make bench`).
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from agent.errors import AgentError
from agent.heartbeat import Beat
from agent.histogram import Histogram
from agent.priority import be_nice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from agent.backends import Engine
    from agent.mailbox import Mailbox
    from agent.messages import Frame, Geometry, ModelInput

_SMOOTHING = 0.1
"""Weight of the newest sample in the running means of the stage times."""
_MARGIN_S = 0.002
"""A frame is to be ready this long before the engine needs it, to begin with: an idle engine costs more."""
_LATER, _EARLIER = 1.25, 0.99
"""What the margin becomes when the engine had to wait for it, and when not: one frame in 23 is late, no more."""
_IDLE_WAIT_S = 0.5
"""Longest wait without looking around: a lost wake-up must not be a hang."""
_AHEAD = 2
_AHEAD_EAGER = 3
"""Frames in work, the one in the network included; at full speed one more rides out a key frame's decoding."""


class Stages(Protocol):
    """What is done for a frame before and after the network."""

    def prepare(self, frame: Frame) -> ModelInput:
        """Convert the frame for the engine."""
        ...

    def finish(self, frame: Frame, geometry: Geometry, outputs: Sequence[NDArray[Any]]) -> object:
        """Use the outputs."""
        ...


@dataclass(slots=True, eq=False)
class Lane:
    """One camera's way through the engine. `done` is set when all it ever got is finished."""

    mailbox: Mailbox
    stages: Stages
    done: threading.Event = field(default_factory=threading.Event)
    served: int = 0
    in_work: int = 0


@dataclass(slots=True, eq=False)
class _Job:
    """A frame on its way through the network; the engine thread sets `outputs` or `fault`."""

    frame: Frame
    lane: Lane
    prepared: ModelInput
    outputs: tuple[NDArray[Any], ...] | None = None
    fault: Exception | None = None

    @property
    def done(self) -> bool:
        """The network has run."""
        return self.outputs is not None or self.fault is not None


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
    """Takes frames from the mailboxes of all cameras through one engine; who was served longest ago comes first.

    `nice` is the priority that the thread which calls `run` gives itself, below the engine's. With `stay` it
    goes on without lanes until `close()`, else until every lane is done.

    On live sources two frames at most are in work: one in the network and one prepared behind it, which is taken
    from its mailbox as late as it can be prepared in time, so that it is the newest. With `eager` (a file at full
    speed, where no frame is dropped) frames are taken as they come.
    """

    def __init__(
        self,
        lanes: Sequence[tuple[Mailbox, Stages]],
        engine: Engine,
        bell: threading.Condition,
        *,
        eager: bool,
        nice: int = 0,
        stay: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lanes = tuple(Lane(mailbox, stages) for mailbox, stages in lanes)
        self._engine = engine
        self._bell = bell
        self._eager = eager
        self._nice = nice
        self._stay = stay
        self._clock = clock
        self._ahead = _AHEAD_EAGER if eager else _AHEAD
        self._jobs: deque[_Job] = deque()
        self._inbox: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._started_s = 0.0
        self._margin_s = _MARGIN_S
        self._preparing = self._over = False
        self._turn = 0
        self.times = StageTimes()
        self.took = {stage: Histogram() for stage in ("prepare", "infer", "finish")}
        self.loop_beat, self.engine_beat = Beat(), Beat()

    @property
    def lanes(self) -> int:
        """How many cameras share the engine."""
        return len(self._lanes)

    def add(self, mailbox: Mailbox, stages: Stages) -> Lane:
        """Serve one more camera, from any thread; it leaves by itself when its mailbox is finished."""
        lane = Lane(mailbox, stages)
        with self._bell:
            if self._over:
                lane.done.set()
            else:
                self._lanes = (*self._lanes, lane)
            self._bell.notify_all()
        if self._over:
            mailbox.close()
        return lane

    def close(self) -> None:
        """Have `run` end as soon as every lane is done; from any thread."""
        with self._bell:
            self._stay = False
            self._bell.notify_all()

    def run(self) -> None:
        """Work until the end. Raises what the engine raised, or a stage; lanes are done then too."""
        engine_thread = threading.Thread(target=self._run_engine, name="engine", daemon=True)
        engine_thread.start()
        if self._nice:
            be_nice(self._nice)  # after the start: the engine's thread would inherit it
        try:
            while self._step():
                pass
        finally:
            self._inbox.put(None)
            self.loop_beat.wait()
            with self._bell:
                self._over = True
            for lane in self._lanes:
                lane.mailbox.close()  # nobody takes frames any more: capture must not wait for that
                lane.done.set()
            engine_thread.join()

    def _step(self) -> bool:
        """Do what is most pressing: an engine without a next frame, then a result; return False at the end."""
        if self._unstarted() == 0 and self._prepare_next():
            return True
        if self._jobs and self._jobs[0].done:
            self._finish(self._jobs.popleft())
            return True
        if self._prepare_next():
            return True
        self._let_go()
        if not (self._lanes or self._stay):
            return False
        self._wait()
        return True

    def _leaving(self) -> list[Lane]:
        """Return the lanes from which nothing is in work and nothing will come."""
        return [lane for lane in self._lanes if not lane.in_work and lane.mailbox.finished]

    def _let_go(self) -> None:
        """Take leave of the lanes that are done."""
        if done := self._leaving():
            with self._bell:
                self._lanes = tuple(lane for lane in self._lanes if lane not in done)
            for lane in done:
                lane.done.set()

    def _unstarted(self) -> int:
        """Return how many frames are prepared behind the one in the network."""
        return max(0, sum(not job.done for job in self._jobs) - 1)

    def _prepare_next(self) -> bool:
        """Prepare the next frame, if there is one and it is time; return whether."""
        if len(self._jobs) >= self._ahead or self._prepare_in_s() > 0:
            return False
        waiting = [lane for lane in self._lanes if lane.mailbox.full]
        if not waiting:
            return False
        lane = min(waiting, key=lambda lane: lane.served)
        frame = lane.mailbox.take()
        if frame is not None:
            self._turn += 1
            lane.served = self._turn
            self._prepare(frame, lane)
        return True

    def _prepare_in_s(self) -> float:
        """Seconds until the next frame should be taken, for the engine to find it ready when it is done."""
        if self._eager or not self._jobs:
            return 0.0
        done_s = self._started_s + self.times.infer_s
        return done_s - self.times.prepare_s - self._margin_s - self._clock()

    def _prepare(self, frame: Frame, lane: Lane) -> None:
        begin_s = self._clock()
        self.loop_beat.begin("prepare", begin_s)
        self._preparing = True
        try:
            prepared = lane.stages.prepare(frame)
        except AgentError as fault:  # this camera's pictures are no good: the others go on
            lane.mailbox.refuse(fault)
            self._preparing = False
            return
        took_s = self._clock() - begin_s
        self.times.prepare_s = _mean(self.times.prepare_s, took_s)
        self.took["prepare"].observe(took_s)
        job = _Job(frame, lane, prepared)
        lane.in_work += 1
        if not self._jobs:
            self._started_s = self._clock()  # the engine's thread may begin only after the next look
        self._jobs.append(job)
        self._inbox.put(job)
        self._preparing = False

    def _finish(self, job: _Job) -> None:
        if job.outputs is None:
            raise job.fault or AssertionError("a job that is done has outputs or a fault")
        begin_s = self._clock()
        self.loop_beat.begin("finish", begin_s)
        job.lane.stages.finish(job.frame, job.prepared.geometry, job.outputs)
        job.lane.in_work -= 1
        took_s = self._clock() - begin_s
        self.times.finish_s = _mean(self.times.finish_s, took_s)
        self.took["finish"].observe(took_s)
        self._let_go()  # here too: a loop that always has a frame never gets to the end of a step

    def _run_engine(self) -> None:
        """Be the engine thread: run the network on one job after the other."""
        while (job := self._inbox.get()) is not None:
            self._started_s = begin_s = self._clock()
            self.engine_beat.begin("infer", begin_s)
            try:
                job.outputs = self._engine.infer(job.prepared.tensor)
            except Exception as fault:  # noqa: BLE001  it is raised again by the loop
                job.fault = fault
            self.engine_beat.wait()
            took_s = self._clock() - begin_s
            self.times.infer_s = _mean(self.times.infer_s, took_s)
            self.took["infer"].observe(took_s)
            self._adjust_margin()
            with self._bell:
                self._bell.notify_all()

    def _adjust_margin(self) -> None:
        """Learn, as the network ends, whether the next frame is ready when there is one."""
        if not self._inbox.empty():
            self._margin_s = max(_MARGIN_S / 2, self._margin_s * _EARLIER)
        elif self._preparing or any(lane.mailbox.full for lane in self._lanes):
            self._margin_s = min(self.times.infer_s / 2, self._margin_s * _LATER)

    def _wait(self) -> None:
        """Wait for a frame, a result, or the time to prepare."""
        self.loop_beat.wait()
        with self._bell:
            if self._jobs and self._jobs[0].done:
                return
            if not (self._lanes or self._stay):
                return
            timeout_s = _IDLE_WAIT_S
            if len(self._jobs) < self._ahead:
                if any(lane.mailbox.full for lane in self._lanes):
                    timeout_s = self._prepare_in_s()
                elif self._leaving():
                    return
            if timeout_s > 0:
                self._bell.wait(timeout_s)


def _mean(mean: float, sample: float) -> float:
    return mean + _SMOOTHING * (sample - mean) if mean else sample
