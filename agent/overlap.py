"""Keeps the engine busy: the next frame is prepared and the last one finished while the network runs.

One thread runs the network and nothing else; this loop does the rest. Measured with 1080p H.264 on two cores, a
plain loop reaches half of the engine's own rate, this one 0.84 to 0.98 of it, by clip and run (`make bench`).
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from agent.batches import batch_of, run_jobs, take_ready
from agent.errors import AgentError
from agent.heartbeat import Beat
from agent.histogram import Histogram
from agent.lanes import Job, Lane, StageTimes, running_mean
from agent.priority import be_nice
from agent.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.backends import Engine
    from agent.lanes import Stages
    from agent.mailbox import Mailbox
    from agent.messages import Frame

_MARGIN_S = 0.002
"""A frame is to be ready this long before the engine needs it, to begin with: an idle engine costs more."""
_LATER, _EARLIER = 1.25, 0.99
"""What the margin becomes when the engine had to wait for it, and when not: one frame in 23 is late, no more."""
_IDLE_WAIT_S = 0.5
"""Longest wait without looking around: a lost wake-up must not be a hang."""
_AHEAD = 2
_AHEAD_EAGER = 5
"""Frames of a camera in work, with the one in the network. At full speed more of them ride out a key frame's decoding:
of 400 frames the engine waited for 8 to 11 with 3, and for the first alone with 5."""


class Overlap:
    """Takes frames from the mailboxes of all cameras through one engine; who was served longest ago comes first.

    `nice` is the priority that the thread which calls `run` gives itself, below the engine's. With `stay` it
    goes on without lanes until `close()`, else until every lane is done.

    On live sources two frames at most are in work: one in the network and one prepared behind it, which is taken
    from its mailbox as late as it can be prepared in time, so that it is the newest. With `eager` (a file at full
    speed, where no frame is dropped) frames are taken as they come. An engine that takes a batch gets what of
    several cameras is ready when it begins: one batch in the network, one behind it.
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
        self._bell = bell
        self._eager = eager
        self._nice = nice
        self._stay = stay
        self._clock = clock
        self._use(engine)
        self._coming: tuple[Engine, Callable[[], None]] | None = None
        self._jobs: deque[Job] = deque()
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._started_s = 0.0
        self._running = 0
        self._margin_s = _MARGIN_S
        self._preparing = self._over = False
        self._turn = 0
        self.times = StageTimes()
        self.took = {stage: Histogram() for stage in ("prepare", "infer", "finish")}
        self.recent = Recent()
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

    def exchange(self, engine: Engine, swap: Callable[[], None]) -> Engine | None:
        """Run `engine` from the next frame on; from any thread. Return the engine that will never run now.

        That is the one that still waited for its turn, after the end `engine` itself, else None; it is the
        caller's to close. The loop calls `swap` in between, when no frame is in work: what frames are prepared
        for may change then.
        """
        with self._bell:
            if self._over:
                return engine
            left, self._coming = self.coming, (engine, swap)
            self._bell.notify_all()
        return left

    @property
    def coming(self) -> Engine | None:
        """The engine that waits for its turn; after the end it never runs."""
        return self._coming[0] if self._coming is not None else None

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

    def _use(self, engine: Engine) -> None:
        self._engine = engine
        self._batch = batch_of(engine)
        self._ahead = _AHEAD * self._batch + (_AHEAD_EAGER - _AHEAD if self._eager else 0)

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
        """Return how many frames are prepared behind those in the network."""
        return max(0, sum(not job.done for job in self._jobs) - max(1, self._running))

    def _waiting(self) -> list[Lane]:
        """Return the lanes of which a frame can be taken now."""
        if self._coming is not None or len(self._jobs) >= self._ahead:
            return []
        most = _AHEAD_EAGER if self._eager else _AHEAD
        return [lane for lane in self._lanes if lane.mailbox.full and lane.in_work < most]

    def _prepare_next(self) -> bool:
        """Prepare the next frame, if there is one and it is time; return whether."""
        self._swap()
        waiting = self._waiting()
        if not waiting or self._prepare_in_s(len(waiting)) > 0:
            return False
        lane = min(waiting, key=lambda lane: lane.served)
        frame = lane.mailbox.take()
        if frame is not None:
            self._turn += 1
            lane.served = self._turn
            self._prepare(frame, lane)
        return True

    def _swap(self) -> None:
        """Go on with the engine that has come, once no frame is in work: its thread waits for one then."""
        if self._coming is None or self._jobs:
            return
        with self._bell:
            (engine, swap), self._coming = self._coming, None
        self._use(engine)
        swap()

    def _prepare_in_s(self, waiting: int) -> float:
        """Seconds until the next frame should be taken, for the engine to find what waits ready when it is done."""
        if self._eager or not self._jobs:
            return 0.0
        done_s = self._started_s + self.times.infer_s
        frames = min(waiting, self._ahead - len(self._jobs))
        return done_s - frames * self.times.prepare_s - self._margin_s - self._clock()

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
        self.times.prepare_s = running_mean(self.times.prepare_s, took_s)
        self.took["prepare"].observe(took_s)
        job = Job(frame, lane, prepared)
        lane.in_work += 1
        if not self._jobs:
            self._started_s = self._clock()  # the engine's thread may begin only after the next look
        self._jobs.append(job)
        self._inbox.put(job)
        self._preparing = False

    def _finish(self, job: Job) -> None:
        if job.outputs is None:
            raise job.fault or AssertionError("a job that is done has outputs or a fault")
        begin_s = self._clock()
        self.loop_beat.begin("finish", begin_s)
        job.lane.stages.finish(job.frame, job.prepared.geometry, job.outputs)
        job.lane.in_work -= 1
        took_s = self._clock() - begin_s
        self.times.finish_s = running_mean(self.times.finish_s, took_s)
        self.took["finish"].observe(took_s)
        self._let_go()  # here too: a loop that always has a frame never gets to the end of a step

    def _run_engine(self) -> None:
        """Be the engine thread: run the network on one job after the other, or on all that are ready."""
        while (job := self._inbox.get()) is not None:
            jobs = [job, *take_ready(self._inbox, self._batch - 1)]
            self._running = len(jobs)
            self._started_s = begin_s = self._clock()
            self.engine_beat.begin("infer", begin_s)
            run_jobs(self._engine, jobs)
            self.engine_beat.wait()
            self._running = 0
            end_s = self._clock()
            took_s = end_s - begin_s
            self.times.infer_s = running_mean(self.times.infer_s, took_s)
            self.took["infer"].observe(took_s)
            self.recent.observe(took_s, end_s)
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
            if self._leaving() or (self._coming is not None and not self._jobs):
                return
            waiting = self._waiting()
            timeout_s = self._prepare_in_s(len(waiting)) if waiting else _IDLE_WAIT_S
            if timeout_s > 0:
                self._bell.wait(timeout_s)
