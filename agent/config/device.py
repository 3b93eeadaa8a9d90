"""The settings of the whole device."""

from __future__ import annotations

import ipaddress
import re
from typing import Literal

import msgspec

from agent.config.camera import CameraConfig, Detect, Sampling
from agent.config.checks import YEAR_S, check_between, check_login, check_path, is_key_line
from agent.errors import BadConfig
from agent.topics import check_name

MAX_OUTBOX_MBYTES = 1_000_000
MAX_THREADS = 64
MAX_COMMIT_FRAMES, MAX_COMMIT_S = 1_000_000, 86_400.0
MAX_ROOT_LEVELS = 10
_HOST = re.compile(r"[\w.-]{1,253}")
_HOST_IN_URL = re.compile(r"(?s)(?:\w+://)?(?:.*@)?\[?([A-Za-z0-9.-]{1,80})\]?(?::(\d{1,5}))?/?")


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

    def __post_init__(self) -> None:
        _check_host(self.host)
        if self.port is not None:
            check_between("mqtt.port", self.port, 1, 65535)
        check_between("mqtt.keepalive_s", self.keepalive_s, 5, 65535)
        check_login("mqtt", self.username, self.password_file)
        for key in ("ca_file", "cert_file", "key_file"):
            check_path(f"mqtt.{key}", getattr(self, key))
            if getattr(self, key) is not None and not self.tls:
                raise BadConfig("mqtt.tls", seen=f"false with {key}", fix="add tls = true")
        if (self.cert_file is None) != (self.key_file is None):
            has, lacks = ("cert_file", "key_file") if self.cert_file else ("key_file", "cert_file")
            raise BadConfig(f"mqtt.{lacks}", seen="none", fix=f"a {has} needs a {lacks}")


class OutboxConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept while the broker is away: at most `max_mbytes` on disk, oldest updates given up first.

    With `sd_saver` updates are written every 5 s instead of every second, which halves the wear of an SD card.
    """

    max_mbytes: int = 64
    sd_saver: bool = False

    def __post_init__(self) -> None:
        check_between("outbox.max_mbytes", self.max_mbytes, 1, MAX_OUTBOX_MBYTES)


class MetricsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where Prometheus may ask: `listen` is address:port of this device itself; None: nowhere."""

    listen: str | None = None

    def __post_init__(self) -> None:
        if self.listen is not None:
            _check_listen(self.listen)

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of `listen`."""
        if self.listen is None:
            return None
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class CommandsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the agent does what it is told over MQTT."""

    enabled: bool = True


class HomeAssistantConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether Home Assistant is told of this device; `prefix` is its discovery prefix."""

    enabled: bool = False
    prefix: str = "homeassistant"

    def __post_init__(self) -> None:
        for level in self.prefix.split("/"):
            check_name("homeassistant.prefix", level)


class ModelsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose bundles run: `trusted_keys` are minisign's public keys, each the path of a file or the key itself.

    A bundle with a signature must be signed by one of them; one without runs with a warning, or, with
    `require_signature`, not at all. The models that are shipped need none.

    A model that was just installed may stay once it has inferred `commit_frames` frames and been at work for
    `commit_s`; until then a fault of it brings back the one before. Models in the store take `quota_mbytes` at
    most; what runs, and ran before it, always stays.
    """

    trusted_keys: tuple[str, ...] = ()
    require_signature: bool = False
    commit_frames: int = 300
    commit_s: float = 120.0
    quota_mbytes: int = 2048

    def __post_init__(self) -> None:
        for i, key in enumerate(self.trusted_keys):
            if not is_key_line(key):
                check_path(f"models.trusted_keys[{i}]", key)
        check_between("models.commit_frames", self.commit_frames, 1, MAX_COMMIT_FRAMES)
        check_between("models.commit_s", self.commit_s, 0, MAX_COMMIT_S)
        check_between("models.quota_mbytes", self.quota_mbytes, 0, MAX_OUTBOX_MBYTES)


class LimitsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds: `threads` of each engine (default: all cores but one), `drain_s` at a clip's end for what is queued."""

    threads: int | None = None
    drain_s: float = 10.0

    def __post_init__(self) -> None:
        if self.threads is not None:
            check_between("limits.threads", self.threads, 1, MAX_THREADS)
        check_between("limits.drain_s", self.drain_s, 0, YEAR_S)


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
    metrics: MetricsConfig = MetricsConfig()
    commands: CommandsConfig = CommandsConfig()
    homeassistant: HomeAssistantConfig = HomeAssistantConfig()
    models: ModelsConfig = ModelsConfig()
    limits: LimitsConfig = LimitsConfig()

    def __post_init__(self) -> None:
        levels = self.topic_root.split("/")
        if len(levels) > MAX_ROOT_LEVELS:
            raise BadConfig("topic_root", seen=f"{len(levels)} levels", fix=f"at most {MAX_ROOT_LEVELS}")
        for level in levels:
            check_name("topic_root", level)
        if self.device is not None:
            check_name("device", self.device)
        for key in ("state_dir", "model", "sink"):
            check_path(key, getattr(self, key))
        if not self.camera:
            raise BadConfig("camera", seen="none", fix="add [[camera]] with a name and a source")
        names = [camera.name for camera in self.camera]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise BadConfig(f"camera[{i}].name", seen=name, fix="give each camera a name of its own")


def _check_host(host: str) -> None:
    """Raise BadConfig unless `host` is a name or an address alone; for a URL with what was meant."""
    if _HOST.fullmatch(host) or _is_ipv6(host):
        return
    fix = "give the name or address of the broker"
    if meant := _HOST_IN_URL.fullmatch(host):
        port = f" and port = {meant[2]}" if meant[2] else ""
        fix = f'did you mean host = "{meant[1]}"{port}? A login goes to username and password_file'
    seen = "***" + host[host.rindex("@") :] if "@" in host else repr(host[:253])
    raise BadConfig("mqtt.host", seen=seen, fix=fix)


def _check_listen(listen: str) -> None:
    """Raise BadConfig unless `listen` is a port of the loopback: there is neither a login nor TLS for others."""
    host, _, port = listen.rpartition(":")
    if not re.fullmatch(r"[\w.-]{1,253}|\[[0-9a-fA-F:.]{2,45}\]", host) or not re.fullmatch(
        r"[0-9]{1,5}", port
    ):
        raise BadConfig("metrics.listen", seen=repr(listen[:253]), fix='write it like "127.0.0.1:9187"')
    check_between("metrics.listen", int(port), 1, 65535)
    if host != "localhost" and not _is_loopback(host.strip("[]")):
        fix = "use 127.0.0.1, and a proxy with TLS and a login for those who ask from outside"
        raise BadConfig("metrics.listen", seen=listen, fix=fix)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_ipv6(host: str) -> bool:
    try:
        return isinstance(ipaddress.ip_address(host), ipaddress.IPv6Address)
    except ValueError:
        return False
