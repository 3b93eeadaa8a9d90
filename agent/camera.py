"""One camera at work: its source, its capture loop, its stages, and how it stands."""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from agent import clock, wire
from agent.assembly import model_side
from agent.backoff import Backoff
from agent.capture import StreamOptions, make_source
from agent.captureloop import Capture
from agent.config import Detect, Sampling
from agent.credentials import source_url
from agent.heartbeat import Beat
from agent.mailbox import Mailbox
from agent.reporting import EventReporter
from agent.sampling import RateMeter, full_rate, make_sampler
from agent.stages import CameraStages
from agent.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.camerahealth import CameraHealth
    from agent.capture import FrameSource, Pace
    from agent.config import CameraConfig
    from agent.engineroom import EngineRoom
    from agent.errors import AgentError
    from agent.histogram import Distribution
    from agent.outlet import Outlet
    from agent.pipeline import Result
    from agent.recent import Percentiles

log = logging.getLogger(__name__)

_RETRY_FIRST_S, _RETRY_MAX_S = 1.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraOptions:
    """How all cameras run. `min_score` is the floor of raw detections; with `retry` a camera's fault is no end.

    `budget` tells the share of their rates that all samplers may use now.
    """

    pace: Pace = "realtime"
    min_score: float = 1.0
    retry: bool = True
    budget: Callable[[], float] = full_rate


@dataclass(frozen=True, slots=True)
class CameraNumbers:
    """Frames of a camera so far and what became of them; `suppressed` for they could not be trusted."""

    rate_hz: float
    frames: int
    inferred: int
    not_sampled: int
    replaced: int
    suppressed: int
    events: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A camera came to its end by itself: a clip is over, or, with a `fault`, it can't go on."""

    camera: Camera
    fault: BaseException | None


class Camera:
    """One camera at work. `config` is complete: with a model, a sampling and a detect of its own."""

    def __init__(
        self,
        config: CameraConfig,
        room: EngineRoom,
        outlet: Outlet,
        options: CameraOptions,
        *,
        event_prefix: str,
        recorders: Sequence[Callable[[Result], None]],
    ) -> None:
        self.config, self._room, self._pace, self._budget = config, room, options.pace, options.budget
        sampling = config.sampling or Sampling()
        self._mailbox = Mailbox(room.bell, blocking=options.pace == "fastest")
        self.beat = Beat()
        self._meter = RateMeter(sampling, budget=options.budget)
        retry = Backoff(first_s=_RETRY_FIRST_S, max_s=_RETRY_MAX_S, rng=random.Random())  # noqa: S311 - jitter
        self._capture = Capture(
            config.name,
            self._new_source,
            make_sampler(sampling, options.budget),
            self._mailbox,
            retry=retry if options.retry else None,
        )
        detect, floor = config.detect or Detect(), options.min_score
        self._fit = partial(model_side, detect=detect, camera=config.name, min_score=floor)
        pipeline = room.pipeline(detect, camera=config.name, min_score=floor, event_prefix=event_prefix)
        reporter = EventReporter(
            outlet,
            camera=config.name,
            model=room.model,
            sampling=lambda: self.sampling,
            utc=_utc(options.pace),
        )
        self._stages = CameraStages(pipeline, reporter, [self._measure, *recorders])
        self._standing = Standing(config.name, time.monotonic(), retries=options.retry)

    @property
    def health(self) -> CameraHealth:
        """Its state as of the last tick."""
        return self._standing.health

    @property
    def numbers(self) -> CameraNumbers:
        """What it did so far; from any thread."""
        capture, stages = self._capture, self._stages
        return CameraNumbers(
            rate_hz=round(capture.frame_rate_hz, 2),
            frames=capture.frames,
            inferred=stages.inferred,
            not_sampled=capture.not_sampled,
            replaced=self._mailbox.replaced,
            suppressed=capture.suppressed + stages.suppressed,
            events=stages.events,
        )

    @property
    def inferred(self) -> int:
        """Frames inferred so far."""
        return self._stages.inferred

    @property
    def refused(self) -> AgentError | None:
        """Why the last picture could not be used; while the source goes on, it hears of it itself."""
        return self._mailbox.fault

    @property
    def age(self) -> Distribution:
        """How old frames were when they were decided on."""
        return self._stages.age.read()

    def recent_age(self, now_s: float) -> Percentiles | None:
        """How old they were in the minute until `now_s`."""
        return self._stages.recent_age.read(now_s)

    @property
    def failures(self) -> int:
        """How often its source failed or lost its connection."""
        return self._capture.failures

    def start(self, ended: Callable[[Ended], None]) -> None:
        """Begin to capture; `ended` is called, on the capture thread, when that is over."""

        def capture() -> None:
            fault: BaseException | None = None
            try:
                self._capture.run()
            except BaseException as error:  # noqa: BLE001  it is raised again in the main thread
                fault = error
            ended(Ended(self, fault))

        self._lane = self._room.add(self._mailbox, self._stages, self._fit)
        self._thread = threading.Thread(target=capture, name=f"capture {self.config.name}", daemon=True)
        self._thread.start()

    def sample(self, sampling: Sampling) -> None:
        """Go on with another sampling from the next frame on."""
        self.config = msgspec.structs.replace(self.config, sampling=sampling)
        self._meter = RateMeter(sampling, budget=self._budget)
        self._capture.sampler = make_sampler(sampling, self._budget)

    def tick(self, now_s: float) -> None:
        """Move its state on, about once a second; a camera that is lost loses its open events."""
        self._capture.trusted = self._standing.step(self._capture.signs, now_s).trusted
        if self._standing.lost:
            self._stages.lose(now_s)
        else:
            self._stages.find()

    def close(self) -> None:
        """Let the source go; what was captured is still inferred."""
        self._capture.close()

    def stop(self, reason: str, deadline_s: float) -> None:
        """Close, wait for the last frame to be finished, and end the open events with `reason`."""
        self.close()
        self._thread.join(max(0.0, deadline_s - time.monotonic()))
        if self._thread.is_alive():
            log.error("camera %s: capture does not end: going without it", self.config.name)
            self._mailbox.close()
        if self._lane.done.wait(max(0.1, deadline_s - time.monotonic())):
            self._stages.close(reason)
        else:
            log.error("camera %s: inference does not end: its events stay open", self.config.name)
        did = self.numbers
        log.info(
            "camera %s: %d frames: %d inferred, %d not sampled, %d not trusted, %d replaced by a newer one; "
            "%d event messages",
            self.config.name,
            did.frames,
            did.inferred,
            did.not_sampled,
            did.suppressed,
            did.replaced,
            did.events,
        )
        log.debug("%s", self._room.overlap.times)

    def _new_source(self) -> FrameSource:
        config = self.config
        options = StreamOptions(
            rtsp_transport=config.rtsp_transport,
            open_timeout_s=config.open_timeout_s,
            stall_timeout_s=config.stall_timeout_s,
            decode=config.decode,
            busy=self._stages.watchful,
            beat=self.beat,
        )
        return make_source(source_url(config), camera=config.name, pace=self._pace, options=options)

    def _measure(self, result: Result) -> None:
        overlap = self._room.overlap
        turn_s = 0.0 if self._pace == "fastest" else overlap.times.total_s * max(1, overlap.lanes)
        self._meter.inferred(result.frame.time_s, turn_s)

    @property
    def sampling(self) -> wire.Sampling:
        """How often it was looked lately, as of the last frame; from any thread."""
        return self._sampling()

    def sampling_at(self, now_s: float) -> wire.Sampling:
        """How often it was looked until `now_s` of the monotonic clock; from any thread."""
        return self._sampling(None if self._pace == "fastest" else now_s)

    def _sampling(self, now_s: float | None = None) -> wire.Sampling:
        now = self._meter.report(self._capture.frame_rate_hz, now_s)
        missed_s = None
        if now.miss_window_s is not None:
            missed_s = round(max(now.miss_window_s, self._capture.idle_miss_window_s), 3)
        return wire.Sampling(now.mode, round(now.effective_hz, 3), missed_s)


def _utc(pace: Pace) -> Callable[[], wire.TimeBase]:
    """Return what maps the logic clock to UTC; where that is the PTS, its 0 is the start of the run."""
    if pace == "fastest":
        fixed = clock.time_base(zero_s=time.monotonic())
        return lambda: fixed
    return clock.time_base
