"""Settings of cameras that came while the agent runs: laid over the configuration, and kept over restarts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import msgspec

from agent import wire
from agent.config import Sampling  # noqa: TC001 - msgspec reads the annotations
from agent.errors import AgentError
from agent.wholefile import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import CameraConfig, Config

log = logging.getLogger(__name__)

NAME = "overrides.json"
"""In the state directory."""
_MAX_BYTES = 1 << 20


class Override(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is other than in the configuration of a camera; None: nothing is."""

    enabled: bool | None = None
    sampling: Sampling | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: Literal[1]
    cameras: dict[str, Override]


class Overrides:
    """What is kept in `folder`, without one for this run alone. A file that can't be read is told, and is none."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / NAME if folder is not None else None
        self._cameras = self._read()

    def over(self, config: Config) -> Config:
        """Return `config` with what is other laid over its cameras."""
        return msgspec.structs.replace(config, camera=tuple(map(self._over, config.camera)))

    def tell(self, config: Config) -> None:
        """Log what is other than the configuration says, and what is kept for cameras that it does not have."""
        for camera in config.camera:
            if (over := self._over(camera)) != camera:
                state = "disabled" if not over.enabled else "its sampling" if camera.enabled else "enabled"
                log.warning("camera %s: %s by command, other than the configuration", camera.name, state)
        if unknown := sorted(set(self._cameras) - {camera.name for camera in config.camera}):
            log.warning("settings by command are kept for cameras that there are not: %s", ", ".join(unknown))

    def usual(self, camera: CameraConfig, after: CameraConfig) -> CameraConfig:
        """Return `after` with the sampling of `camera`, as it is configured, where it has none."""
        return msgspec.structs.replace(after, sampling=after.sampling or camera.sampling)

    def put(self, camera: CameraConfig, config: Config, after: CameraConfig) -> None:
        """Keep what `after` has other than `camera` of the configuration. Raises CannotCreate, nothing changed."""
        usual = camera.sampling or config.sampling
        override = Override(
            enabled=None if after.enabled == camera.enabled else after.enabled,
            sampling=None if (after.sampling or usual) == usual else after.sampling,
        )
        cameras = {name: each for name, each in self._cameras.items() if name != camera.name}
        if override != Override():
            cameras[camera.name] = override
        if self._path is not None and cameras != self._cameras:
            write_whole(self._path, msgspec.json.encode(_File(1, cameras)) + b"\n", mode=0o600)
        self._cameras = cameras

    def _over(self, camera: CameraConfig) -> CameraConfig:
        override = self._cameras.get(camera.name, Override())
        return msgspec.structs.replace(
            camera,
            enabled=camera.enabled if override.enabled is None else override.enabled,
            sampling=override.sampling or camera.sampling,
        )

    def _read(self) -> dict[str, Override]:
        if self._path is None:
            return {}
        try:
            with self._path.open("rb") as file:
                return msgspec.json.decode(file.read(_MAX_BYTES), type=_File).cameras
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError, AgentError) as fault:
            log.error("%s can't be read (%s): cameras run as the configuration says", self._path, fault)
            return {}


def settings_of(camera: CameraConfig, config: Config) -> wire.CameraSettings:
    """Return what is told of how `camera` is set."""
    sampling = msgspec.structs.asdict(camera.sampling or config.sampling)
    return wire.CameraSettings(1, camera.enabled, wire.SamplingSettings(**sampling))
