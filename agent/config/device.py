"""The settings of the whole device."""

from __future__ import annotations

from typing import Literal

import msgspec

from agent.config.camera import CameraConfig, Detect, Sampling
from agent.errors import BadConfig
from agent.topics import Topics


class MqttConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The broker. With `tls` and no `ca_file` the system's authorities are trusted; `protocol` "auto": 5, else 3.1.1.

    The password is the first line of `password_file`, a path or the name of a systemd credential.
    """

    host: str
    port: int | None = None
    tls: bool = False
    username: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    client_id: str = ""
    protocol: Literal["auto", "3.1.1"] = "auto"
    keepalive_s: int = 30


class OutboxConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept while the broker is away: at most `max_mbytes` on disk, oldest updates given up first."""

    max_mbytes: int = 64


class LimitsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds: `threads` of each engine (default: all cores but one), `drain_s` at the end for what is queued."""

    threads: int | None = None
    drain_s: float = 10.0


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of `config.toml`. `model`, `sampling` and `detect` are for every camera that has none of its own.

    Without `mqtt` events go to `sink`, a JSONL file; "-" is standard output. `device` defaults to the host name,
    `state_dir` to $STATE_DIRECTORY or the user's, `model` to the starter.
    """

    camera: tuple[CameraConfig, ...]
    device: str | None = None
    topic_root: str = "edge"
    state_dir: str | None = None
    model: str | None = None
    mqtt: MqttConfig | None = None
    sink: str = "-"
    sampling: Sampling = Sampling()
    detect: Detect = Detect()
    outbox: OutboxConfig = OutboxConfig()
    limits: LimitsConfig = LimitsConfig()

    def __post_init__(self) -> None:
        Topics.of(self.device or "edge", root=self.topic_root)
        names = [camera.name for camera in self.camera]
        for name in names:
            if names.count(name) > 1:
                raise BadConfig(
                    "camera.name is used twice", seen=name, fix="give each camera a name of its own"
                )
