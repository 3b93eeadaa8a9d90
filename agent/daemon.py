"""Builds the agent for one source, runs its threads, and ends them in order."""

from __future__ import annotations

import logging
import queue
import signal
import sys
import threading
import time
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent import wire
from agent.assembly import build_pipeline, open_model
from agent.camera import CameraStages, Capture
from agent.capture import StreamOptions, make_source
from agent.config import Detect, Sampling
from agent.errors import IOFault, ServiceAway, TryAgain
from agent.mailbox import Mailbox
from agent.outlet import open_outlet
from agent.overlap import Overlap
from agent.priority import NICE_STAGES
from agent.reporting import DetectionLog, EventReporter, MotLog
from agent.sampling import RateMeter, make_sampler
from agent.topics import check_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from agent.backends import Engine
    from agent.bundle import Bundle
    from agent.capture import Pace
    from agent.outlet import Outlet
    from agent.pipeline import Result

log = logging.getLogger(__name__)

GIL_SWITCH_S = 0.0005
"""How long a thread may keep the interpreter when another wants it; Python's own 5 ms is an inference."""
_END_S = 10.0
"""Longest wait for the threads once the source is closed: a decoder or engine that hangs must not hold us."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SOURCE_ENDED, _INFERENCE_ENDED = "source ended", "inference ended"
_DRAIN_STEP_S = 0.25

End = str | BaseException
"""Why the run ends: the name of what happened, or what went wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What `run` was asked for. Without a `broker` events go to the JSONL file `sink`, "-" is stdout."""

    source: str
    model: Path
    state_dir: Path
    camera: str = "camera"
    device: str = "edge"
    topic_root: str = "edge"
    broker: str | None = None
    sink: str = "-"
    pace: Pace = "realtime"
    detections: Path | None = None
    mot: Path | None = None
    min_score: float = 0.05
    threads: int = 1
    drain_s: float = 10.0
    sampling: Sampling = field(default_factory=Sampling)
    detect: Detect = field(default_factory=Detect)
    stream: StreamOptions = field(default_factory=StreamOptions)


def run(options: RunOptions, recorders: Sequence[Callable[[Result], None]] = ()) -> None:
    """Run until the source ends or SIGTERM or SIGINT comes; then end open events and drain.

    `recorders` get the result of every inferred frame before its events are queued.
    Raises AgentError; TryAgain when messages are left for the next start.
    """
    sys.setswitchinterval(GIL_SWITCH_S)
    check_name("camera", options.camera)
    bundle, engine = open_model(options.model, threads=options.threads)
    with ExitStack() as stack:
        stack.callback(engine.close)
        build_pipeline(bundle, engine, options.detect, camera=options.camera)  # a wrong setting is told first
        ends = stack.enter_context(_signals())
        outlet = stack.enter_context(_outlet(options))
        files = _files(options, bundle, stack)
        chain = _Chain(options, bundle, engine, outlet, [*recorders, *files])
        failure = chain.run(ends)
        drained = _drain(outlet, options.drain_s if chain.began else 0.0, ends)
        waiting, reason = outlet.waiting(), outlet.publisher.state.last_error
    if failure is not None:
        raise failure
    if not drained:
        what = f"messages not delivered ({reason or 'no answer in time'})"
        if options.broker is None and options.sink == "-":
            raise IOFault(
                what, seen=f"{waiting} lost", fix="use --sink FILE or --broker to keep what can't be sent"
            )
        fix = f"they are kept in {options.state_dir} and go out at the next start"
        raise TryAgain(what, seen=f"{waiting} of this run", fix=fix)


class _Chain:
    """The one camera from source to outbox."""

    def __init__(
        self,
        options: RunOptions,
        bundle: Bundle,
        engine: Engine,
        outlet: Outlet,
        recorders: Sequence[Callable[[Result], None]],
    ) -> None:
        bell, self._fastest = threading.Condition(), options.pace == "fastest"
        self._source = source = make_source(
            options.source, camera=options.camera, pace=options.pace, options=options.stream
        )
        self._meter = RateMeter(options.sampling)
        self._mailbox = Mailbox(bell, blocking=self._fastest)
        self._capture = Capture(source, make_sampler(options.sampling), self._mailbox)
        pipeline = build_pipeline(
            bundle,
            engine,
            options.detect,
            camera=options.camera,
            min_score=options.min_score if options.detections else 1.0,
            event_prefix=f"{outlet.outbox.epoch[:8]}-{options.camera}",
        )
        reporter = EventReporter(
            outlet,
            camera=options.camera,
            model=_model(bundle, engine),
            sampling=self._sampling,
            utc=_utc(options.pace),
        )
        self._stages = CameraStages(pipeline, reporter, [self._measure, *recorders])
        self._overlap = Overlap(
            [(self._mailbox, self._stages)], engine, bell, eager=self._fastest, nice=NICE_STAGES
        )

    @property
    def began(self) -> bool:
        """A frame was inferred."""
        return self._stages.inferred > 0

    def run(self, ends: queue.SimpleQueue[End]) -> BaseException | None:
        """Run to the end, then end the open events; return what failed, if anything."""
        seen = self._until_end(ends)
        failure = _failure(seen)
        self._stages.close("failed" if failure else "shutdown" if _stopped(seen) else "end_of_stream")
        log.info(
            "%d frames: %d inferred, %d not sampled, %d replaced by a newer one; %d event messages",
            self._source.stats.frames,
            self._stages.inferred,
            self._capture.not_sampled,
            self._mailbox.replaced,
            self._stages.events,
        )
        log.debug("%s; %s", self._source.stats, self._overlap.times)
        return failure

    def _until_end(self, ends: queue.SimpleQueue[End]) -> list[End]:
        """Run capture and inference until the source ends, a signal comes or one of them fails.

        Returns, when both have come to an end, what happened, in order.
        """
        threads = [
            _thread("capture", self._capture.run, ends, done=_SOURCE_ENDED),
            _thread("inference", self._infer, ends, done=_INFERENCE_ENDED),
        ]
        seen: list[End] = []
        while set(seen) != {_SOURCE_ENDED, _INFERENCE_ENDED}:  # what was captured is still inferred
            seen.append(ends.get())
            if seen[-1] not in {_SOURCE_ENDED, _INFERENCE_ENDED}:
                break
        self._source.close()
        deadline_s = time.monotonic() + _END_S
        for thread in threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
            if thread.is_alive():
                log.error("the %s thread does not end: going without it", thread.name)
        while not ends.empty():
            seen.append(ends.get())
        return seen

    def _infer(self) -> None:
        try:
            self._overlap.run()
        finally:
            self._mailbox.close()  # nobody takes frames any more: capture must not wait for that

    def _measure(self, result: Result) -> None:
        self._meter.inferred(result.frame.time_s, 0.0 if self._fastest else self._overlap.times.total_s)

    def _sampling(self) -> wire.Sampling:
        now = self._meter.report(self._source.frame_rate_hz)
        missed_s = None if now.miss_window_s is None else round(now.miss_window_s, 3)
        return wire.Sampling(now.mode, round(now.effective_hz, 3), missed_s)


def _failure(seen: list[End]) -> BaseException | None:
    """Return what went wrong; a camera that was away when the signal to stop came is none."""
    faults = [end for end in seen if isinstance(end, BaseException)]
    return next((fault for fault in faults if not (_stopped(seen) and isinstance(fault, ServiceAway))), None)


def _stopped(seen: list[End]) -> bool:
    return any(number.name in seen for number in _SIGNALS)


def _thread(
    name: str, work: Callable[[], None], ends: queue.SimpleQueue[End], *, done: str
) -> threading.Thread:
    def run_and_tell() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  it is raised again in the main thread
            ends.put(error)
        else:
            ends.put(done)

    thread = threading.Thread(target=run_and_tell, name=name, daemon=True)
    thread.start()
    return thread


@contextmanager
def _signals() -> Iterator[queue.SimpleQueue[End]]:
    """Yield a queue in which SIGTERM and SIGINT show up (SimpleQueue.put is safe in a signal handler)."""
    ends: queue.SimpleQueue[End] = queue.SimpleQueue()
    before = {
        number: signal.signal(number, lambda n, _: ends.put(signal.Signals(n).name)) for number in _SIGNALS
    }
    try:
        yield ends
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _drain(outlet: Outlet, drain_s: float, ends: queue.SimpleQueue[End]) -> bool:
    """Deliver what is left for at most `drain_s`, or until another signal; return whether all arrived."""
    deadline_s = time.monotonic() + max(drain_s, _DRAIN_STEP_S)
    while (rest_s := deadline_s - time.monotonic()) > 0 and ends.empty():
        if outlet.drain(min(_DRAIN_STEP_S, rest_s)):
            return True
    return False


def _outlet(options: RunOptions) -> AbstractContextManager[Outlet]:
    return open_outlet(
        device=options.device,
        topic_root=options.topic_root,
        broker=options.broker,
        sink=options.sink,
        state_dir=options.state_dir,
    )


def _files(options: RunOptions, bundle: Bundle, stack: ExitStack) -> list[Callable[[Result], None]]:
    """Open the files asked for; each is closed with `stack`. Raises CannotCreate."""
    files: list[DetectionLog | MotLog] = []
    if options.detections is not None:
        files.append(DetectionLog(options.detections, bundle.labels, options.min_score))
    if options.mot is not None:
        files.append(MotLog(options.mot))
    for file in files:
        stack.callback(file.close)
    return [file.write for file in files]


def _model(bundle: Bundle, engine: Engine) -> wire.Model:
    manifest, artifact = bundle.manifest, bundle.artifact("tflite")
    return wire.Model(
        manifest.name, manifest.version, artifact.sha256, artifact.precision, engine.info.backend
    )


def _utc(pace: Pace) -> Callable[[], wire.TimeBase]:
    """Return what maps the logic clock to UTC; where that is the PTS, its 0 is the start of the run."""
    if pace == "fastest":
        fixed = wire.TimeBase(time.time(), wire.clock_synced())
        return lambda: fixed
    return lambda: wire.TimeBase(time.time() - time.monotonic(), wire.clock_synced())
