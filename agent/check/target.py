"""What is to be checked: a configuration with its defaults filled in and its secrets read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from agent.bundle import NOBODY
from agent.bundle.trust import read_trust
from agent.capture import StreamOptions
from agent.config import Detect, Sampling
from agent.errors import AgentError
from agent.modelstore import FOLDER, ModelStore
from agent.starter import starter_bundle
from agent.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.bundle import Trust
    from agent.config import CameraConfig, Config
    from agent.config.camera import Decode
    from agent.mqtt.options import MqttOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraTarget:
    """One camera. `url` holds its login; `trouble` says why there is none."""

    name: str
    url: str = field(repr=False)
    model: Path
    enabled: bool = True
    sampling: Sampling = field(default_factory=Sampling)
    detect: Detect = field(default_factory=Detect)
    stream: StreamOptions = field(default_factory=StreamOptions)
    decode: Decode = "all"
    trouble: AgentError | None = None

    @property
    def what(self) -> str:
        """The camera's name in a row."""
        return f"camera {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One device. Without `mqtt` its events go to `sink`, or can't go out for `mqtt_trouble`.

    `metrics` is host and port where it is asked for its numbers. `threads` None: as `run` would choose.
    """

    cameras: tuple[CameraTarget, ...]
    device: str
    state_dir: Path
    threads: int | None = None
    trust: Trust = NOBODY
    topic_root: str = "edge"
    mqtt: MqttOptions | None = None
    mqtt_trouble: AgentError | None = None
    sink: str = "-"
    outbox_max_bytes: int = 64 << 20
    metrics: tuple[str, int] | None = None

    @property
    def topics(self) -> Topics:
        """The device's topics."""
        return Topics.of(self.device, root=self.topic_root)

    @property
    def watched(self) -> tuple[CameraTarget, ...]:
        """The cameras that can be tried."""
        return tuple(camera for camera in self.cameras if camera.enabled and camera.trouble is None)

    @property
    def models(self) -> tuple[Path, ...]:
        """Every bundle that a camera uses, once."""
        return tuple(dict.fromkeys(camera.model for camera in self.cameras if camera.enabled))


def from_config(config: Config, *, device: str, state_dir: Callable[[], Path], threads: int | None) -> Target:
    """Return the target of `config`; `device`, `state_dir` and `threads` are what it does not say.

    A secret that can't be read is the trouble of its camera or of the broker alone. Raises InputMissing when
    a camera needs the starter model and it is not installed, what `state_dir` does, and what a file of
    `trusted_keys` does that can't be used.
    """
    from agent.credentials import mqtt_options

    mqtt, trouble = None, None
    if config.mqtt is not None:
        try:
            mqtt = mqtt_options(config.mqtt)
        except AgentError as error:
            trouble = error
    state = Path(config.state_dir) if config.state_dir else state_dir()
    return Target(
        cameras=tuple(_camera(camera, config, state) for camera in config.camera),
        device=config.device or device,
        state_dir=state,
        threads=config.limits.threads or threads,
        trust=read_trust(config.models),
        topic_root=config.topic_root,
        mqtt=mqtt,
        mqtt_trouble=trouble,
        sink=config.sink,
        outbox_max_bytes=config.outbox.max_mbytes << 20,
        metrics=config.metrics.address,
    )


def _camera(camera: CameraConfig, config: Config, state_dir: Path) -> CameraTarget:
    from agent.credentials import source_url

    url, trouble = "", None
    try:
        url = source_url(camera)
    except AgentError as error:
        trouble = error
    model = camera.model or config.model
    return CameraTarget(
        name=camera.name,
        url=url,
        model=Path(model) if model else ModelStore(state_dir / FOLDER).bundle() or starter_bundle(),
        enabled=camera.enabled,
        sampling=camera.sampling or config.sampling,
        detect=camera.detect or config.detect,
        stream=StreamOptions(
            rtsp_transport=camera.rtsp_transport,
            open_timeout_s=camera.open_timeout_s,
            stall_timeout_s=camera.stall_timeout_s,
        ),
        decode=camera.decode,
        trouble=trouble,
    )
