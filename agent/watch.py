"""The cameras at work: each from its source to the outbox, started, changed and stopped while the others go on."""

from __future__ import annotations

import logging
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent.assembly import model_side
from agent.camera import Camera
from agent.config import Detect, Sampling
from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agent.backends import Engine
    from agent.bundle import Bundle
    from agent.camera import CameraOptions, Ended
    from agent.camerahealth import CameraHealth
    from agent.config import CameraConfig, Config
    from agent.engines import Engines
    from agent.outlet import Outlet
    from agent.pipeline import Result

log = logging.getLogger(__name__)

_END_S = 10.0
"""Longest wait for a camera's threads once its source is closed: a decoder that hangs must not hold us."""


class Watch:
    """All cameras of the device. `ended` hears of those that end by themselves; to stop them is the caller's."""

    def __init__(
        self,
        engines: Engines,
        outlet: Outlet,
        options: CameraOptions,
        *,
        ended: Callable[[Ended], None],
        recorders: Sequence[Callable[[Result], None]] = (),
    ) -> None:
        self._engines, self._outlet, self._options = engines, outlet, options
        self._ended, self._recorders = ended, recorders
        self._cameras: dict[str, Camera] = {}  # replaced, never changed: other threads look at it
        self._starts: Counter[str] = Counter()
        self._inferred_before = 0
        self._faulty: set[str] = set()

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """Those at work."""
        return tuple(self._cameras.values())

    @property
    def inferred(self) -> int:
        """Frames inferred so far, of all cameras there ever were."""
        return self._inferred_before + sum(camera.inferred for camera in self.cameras)

    def tick(self, now_s: float) -> None:
        """Move the states of the cameras on, about once a second, at `now_s` of the monotonic clock."""
        for camera in self.cameras:
            name = camera.config.name
            try:
                camera.tick(now_s)
            except Exception as fault:  # the others' states must go on
                if name not in self._faulty:
                    log.error("camera %s: %s: %s; it goes on", name, type(fault).__name__, fault)
                    log.debug("camera %s: fault", name, exc_info=fault)
                self._faulty.add(name)
            else:
                self._faulty.discard(name)

    def health(self) -> dict[str, CameraHealth]:
        """Return the state of each camera by name; from any thread."""
        return {camera.config.name: camera.health for camera in self.cameras}

    def apply(self, wanted: Sequence[CameraConfig], reason: str = "reload") -> str:
        """Run exactly the cameras `wanted`, complete ones: who is unchanged goes on undisturbed.

        So does who only has another sampling. `reason` is what the events of those that leave end with. Returns
        what was done, in words. Raises AgentError, with nothing changed, when a model or setting of a new one is
        no good.
        """
        before = set(self._cameras)
        anew = {config.name: config for config in wanted if self._goes_on(config)}
        same = set(anew)
        try:
            fresh = [self._camera(config) for config in wanted if config.name not in same]
        except AgentError:
            self._engines.keep({bundle_path(camera.config) for camera in self.cameras})
            raise
        self.stop([camera for camera in self.cameras if camera.config.name not in same], reason)
        sampled = {camera for camera in self.cameras if camera.config != anew[camera.config.name]}
        for camera in sampled:
            camera.sample(anew[camera.config.name].sampling or Sampling())
        for camera in fresh:
            self._cameras = {**self._cameras, camera.config.name: camera}
            camera.start(self._ended)
        self._engines.keep({bundle_path(config) for config in wanted})
        after = set(self._cameras)
        changed = (before & after - same) | {camera.config.name for camera in sampled}
        done = {"new": after - before, "gone": before - after, "changed": changed}
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
            self._cameras = {name: other for name, other in self._cameras.items() if other is not camera}
        return next((camera.refused for camera in leaving if camera.refused), None)

    def _goes_on(self, config: CameraConfig) -> bool:
        """Tell whether this camera is at work, as it is to be but for its sampling."""
        camera = self._cameras.get(config.name)
        return camera is not None and _but_sampling(camera.config) == _but_sampling(config)

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


def _but_sampling(config: CameraConfig) -> CameraConfig:
    return msgspec.structs.replace(config, sampling=None)


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


def bundle_path(config: CameraConfig) -> Path | None:
    """Return the bundle of a camera, None for the default model."""
    return Path(config.model) if config.model else None


def check_cameras(cameras: Sequence[CameraConfig], engines: Engines) -> None:
    """Open the engines of `cameras` and try their settings: what is wrong is told before anything starts."""

    def check(path: Path | None, bundle: Bundle, engine: Engine) -> None:
        for config in cameras:
            if bundle_path(config) == path:
                model_side(bundle, engine, config.detect or Detect(), camera=config.name)

    for path in dict.fromkeys(map(bundle_path, cameras)):
        engines.room(path, partial(check, path))
    for config in cameras:
        engines.room(bundle_path(config)).pipeline(config.detect or Detect(), camera=config.name)
