"""The cameras at work: each from its source to the outbox, started, changed and stopped while the others go on."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent import wire
from agent.assembly import build_pipeline
from agent.backoff import Backoff
from agent.camera import CameraStages, Capture
from agent.capture import StreamOptions, make_source
from agent.config import Detect, Sampling
from agent.credentials import source_url
from agent.errors import AgentError
from agent.mailbox import Mailbox
from agent.reporting import EventReporter
from agent.sampling import RateMeter, make_sampler
from agent.starter import starter_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agent.capture import FrameSource, Pace
    from agent.config import CameraConfig, Config
    from agent.engines import EngineRoom, Engines
    from agent.outlet import Outlet
    from agent.pipeline import Result

log = logging.getLogger(__name__)

_END_S = 10.0
"""Longest wait for a camera's threads once its source is closed: a decoder that hangs must not hold us."""
_RETRY_FIRST_S, _RETRY_MAX_S = 1.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """How all cameras run. `min_score` is the floor of raw detections; with `retry` a camera's fault is no end."""

    pace: Pace = "realtime"
    min_score: float = 1.0
    retry: bool = True


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
        options: WatchOptions,
        *,
        event_prefix: str,
        recorders: Sequence[Callable[[Result], None]],
    ) -> None:
        self.config, self._room, self._pace = config, room, options.pace
        sampling = config.sampling or Sampling()
        self._mailbox = Mailbox(room.bell, blocking=options.pace == "fastest")
        self._meter = RateMeter(sampling)
        retry = Backoff(first_s=_RETRY_FIRST_S, max_s=_RETRY_MAX_S, rng=random.Random())  # noqa: S311 - jitter
        self._capture = Capture(
            config.name,
            self._new_source,
            make_sampler(sampling),
            self._mailbox,
            retry=retry if options.retry else None,
        )
        pipeline = build_pipeline(
            room.bundle,
            room.engine,
            config.detect or Detect(),
            camera=config.name,
            min_score=options.min_score,
            event_prefix=event_prefix,
        )
        reporter = EventReporter(
            outlet,
            camera=config.name,
            model=room.model,
            sampling=self._sampling,
            utc=_utc(options.pace),
        )
        self._stages = CameraStages(pipeline, reporter, [self._measure, *recorders])

    @property
    def inferred(self) -> int:
        """Frames inferred so far."""
        return self._stages.inferred

    @property
    def refused(self) -> AgentError | None:
        """Why the last picture could not be used; while the source goes on, it hears of it itself."""
        return self._mailbox.fault

    def start(self, ended: Callable[[Ended], None]) -> None:
        """Begin to capture; `ended` is called, on the capture thread, when that is over."""

        def capture() -> None:
            fault: BaseException | None = None
            try:
                self._capture.run()
            except BaseException as error:  # noqa: BLE001  it is raised again in the main thread
                fault = error
            ended(Ended(self, fault))

        self._lane = self._room.overlap.add(self._mailbox, self._stages)
        self._thread = threading.Thread(target=capture, name=f"capture {self.config.name}", daemon=True)
        self._thread.start()

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
        log.info(
            "camera %s: %d frames: %d inferred, %d not sampled, %d replaced by a newer one; %d event messages",
            self.config.name,
            self._capture.frames,
            self._stages.inferred,
            self._capture.not_sampled,
            self._mailbox.replaced,
            self._stages.events,
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
        )
        return make_source(source_url(config), camera=config.name, pace=self._pace, options=options)

    def _measure(self, result: Result) -> None:
        overlap = self._room.overlap
        turn_s = 0.0 if self._pace == "fastest" else overlap.times.total_s * max(1, overlap.lanes)
        self._meter.inferred(result.frame.time_s, turn_s)

    def _sampling(self) -> wire.Sampling:
        now = self._meter.report(self._capture.frame_rate_hz)
        missed_s = None
        if now.miss_window_s is not None:
            missed_s = round(max(now.miss_window_s, self._capture.idle_miss_window_s), 3)
        return wire.Sampling(now.mode, round(now.effective_hz, 3), missed_s)


class Watch:
    """All cameras of the device. `ended` hears of those that end by themselves; to stop them is the caller's."""

    def __init__(
        self,
        engines: Engines,
        outlet: Outlet,
        options: WatchOptions,
        *,
        ended: Callable[[Ended], None],
        recorders: Sequence[Callable[[Result], None]] = (),
    ) -> None:
        self._engines, self._outlet, self._options = engines, outlet, options
        self._ended, self._recorders = ended, recorders
        self._cameras: dict[str, Camera] = {}
        self._starts: Counter[str] = Counter()
        self._inferred_before = 0

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """Those at work."""
        return tuple(self._cameras.values())

    @property
    def inferred(self) -> int:
        """Frames inferred so far, of all cameras there ever were."""
        return self._inferred_before + sum(camera.inferred for camera in self.cameras)

    def apply(self, wanted: Sequence[CameraConfig]) -> str:
        """Run exactly the cameras `wanted`, complete ones: who is unchanged goes on undisturbed.

        Returns what was done, in words. Raises AgentError, with nothing changed, when a model or setting of a new
        one is no good.
        """
        before = set(self._cameras)
        same = {camera.config.name for camera in self.cameras if camera.config in wanted}
        try:
            fresh = [self._camera(config) for config in wanted if config.name not in same]
        except AgentError:
            self._engines.keep({bundle_path(camera.config) for camera in self.cameras})
            raise
        self.stop([camera for camera in self.cameras if camera.config.name not in same], "reload")
        for camera in fresh:
            self._cameras[camera.config.name] = camera
            camera.start(self._ended)
        self._engines.keep({bundle_path(config) for config in wanted})
        after = set(self._cameras)
        done = {"new": after - before, "gone": before - after, "changed": before & after - same}
        told = [f"{what}: {', '.join(sorted(names))}" for what, names in done.items() if names]
        return "; ".join(told) or "no camera changed"

    def stop(self, cameras: Iterable[Camera], reason: str) -> AgentError | None:
        """Stop `cameras`, all at the same time, and end their open events with `reason`.

        Returns why a last picture could not be used, if one could not.
        """
        leaving = [camera for camera in cameras if self._cameras.get(camera.config.name) is camera]
        deadline_s = time.monotonic() + _END_S
        for camera in leaving:
            camera.close()
        for camera in leaving:
            camera.stop(reason, deadline_s)
            self._inferred_before += camera.inferred
            del self._cameras[camera.config.name]
        return next((camera.refused for camera in leaving if camera.refused), None)

    def _camera(self, config: CameraConfig) -> Camera:
        self._starts[config.name] += 1
        again = f".{self._starts[config.name]}" if self._starts[config.name] > 1 else ""
        return Camera(
            config,
            self._engines.room(bundle_path(config)),
            self._outlet,
            self._options,
            event_prefix=f"{self._outlet.outbox.epoch[:8]}{again}-{config.name}",
            recorders=self._recorders,
        )


def complete(config: Config) -> list[CameraConfig]:
    """Return the enabled cameras, each with what it takes from the device filled in."""
    return [
        msgspec.structs.replace(
            camera,
            model=camera.model or config.model,
            sampling=camera.sampling or config.sampling,
            detect=camera.detect or config.detect,
        )
        for camera in config.camera
        if camera.enabled
    ]


def bundle_path(config: CameraConfig) -> Path:
    """Return the bundle of a camera. Raises InputMissing when that is the starter and it is not installed."""
    return Path(config.model) if config.model else starter_bundle()


def check_cameras(cameras: Sequence[CameraConfig], engines: Engines) -> None:
    """Open the engines of `cameras` and try their settings: what is wrong is told before anything starts."""
    for config in cameras:
        room = engines.room(bundle_path(config))
        build_pipeline(room.bundle, room.engine, config.detect or Detect(), camera=config.name)
        make_sampler(config.sampling or Sampling())


def _utc(pace: Pace) -> Callable[[], wire.TimeBase]:
    """Return what maps the logic clock to UTC; where that is the PTS, its 0 is the start of the run."""
    if pace == "fastest":
        fixed = wire.TimeBase(time.time(), wire.clock_synced())
        return lambda: fixed
    return lambda: wire.TimeBase(time.time() - time.monotonic(), wire.clock_synced())
