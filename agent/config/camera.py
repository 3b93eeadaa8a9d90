"""The settings of one camera."""

from __future__ import annotations

from typing import Literal

import msgspec

from agent.config.checks import (
    YEAR_S,
    Polygon,
    check_above_zero,
    check_between,
    check_labels,
    check_login,
    check_path,
    check_polygon,
    check_source,
)
from agent.errors import BadConfig
from agent.topics import check_name
from agent.urls import redact, scheme

MAX_HZ, MAX_EVERY_N = 1000.0, 1_000_000
MIN_STALL_S, MAX_TIMEOUT_S = 0.5, 3600.0
LOGIN_SCHEMES = ("rtsp", "rtsps", "http", "https")
"""URLs that a username can be put into."""

Decode = Literal["all", "keyframes_when_idle"]
"""Which packets of a stream are decoded."""


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which frames are inferred: decided before any of them is converted.

    uniform: at most `hz` a second on an even grid; interval: every `every_n`-th frame; motion: between
    `min_hz` (nothing moves) and `max_hz` (something does). `threshold` is the share of the picture that must
    change.
    """

    mode: Literal["uniform", "interval", "motion"] = "interval"
    hz: float = 5.0
    every_n: int = 1
    min_hz: float = 0.5
    max_hz: float = 10.0
    threshold: float = 0.002

    def __post_init__(self) -> None:
        for key in ("hz", "min_hz", "max_hz"):
            check_above_zero(f"sampling.{key}", getattr(self, key), MAX_HZ)
        check_between("sampling.every_n", self.every_n, 1, MAX_EVERY_N)
        if self.min_hz > self.max_hz:
            raise BadConfig(
                "sampling.min_hz", seen=self.min_hz, fix=f"must not exceed max_hz {self.max_hz:g}"
            )
        if not 0 < self.threshold < 1:
            raise BadConfig("sampling.threshold", seen=self.threshold, fix="a share of the picture, 0 to 1")


class Zone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named polygon, corners as fractions 0..1 of the frame; `labels` empty means every label."""

    name: str
    polygon: Polygon
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name("zone.name", self.name)
        check_polygon("zone.polygon", self.polygon)
        check_labels("zone.labels", self.labels)


class Detect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What counts as an object and as a change of one. Times in seconds, never frames.

    An object becomes an event when its score reaches `threshold` (`thresholds` per label; None: the model's
    own) and it has been seen for `min_duration_s`; it keeps it down to `threshold - hysteresis`; it ends when
    it has not been seen for `end_after_s` and in two frames. `labels` empty means every label; `masks` are
    polygons where nothing counts. Something still for `stationary_s` is stationary; when it is lost and comes
    back in its place within `stationary_memory_s`, it is not announced again (0: it is).
    """

    threshold: float | None = None
    thresholds: dict[str, float] = {}
    labels: tuple[str, ...] = ()
    hysteresis: float = 0.1
    min_duration_s: float = 0.3
    end_after_s: float = 2.0
    update_s: float = 5.0
    stationary_s: float = 10.0
    stationary_memory_s: float = 600.0
    zones: tuple[Zone, ...] = ()
    masks: tuple[Polygon, ...] = ()

    def __post_init__(self) -> None:
        check_labels("detect.labels", self.labels)
        check_labels("detect.thresholds", tuple(self.thresholds))
        by_label = {f"thresholds.{label}": value for label, value in self.thresholds.items()}
        for key, value in {"threshold": self.threshold, **by_label}.items():
            if value is not None and not 0 < value <= 1:
                raise BadConfig(f"detect.{key}", seen=value, fix="a score above 0, up to 1")
        if not 0 <= self.hysteresis < 1:
            raise BadConfig("detect.hysteresis", seen=self.hysteresis, fix="0 or more, below 1")
        for key in ("end_after_s", "update_s", "stationary_s"):
            check_above_zero(f"detect.{key}", getattr(self, key), YEAR_S)
        for key in ("min_duration_s", "stationary_memory_s"):
            check_between(f"detect.{key}", getattr(self, key), 0, YEAR_S)
        for i, mask in enumerate(self.masks):
            check_polygon(f"detect.masks[{i}]", mask)
        names = [zone.name for zone in self.zones]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise BadConfig(f"detect.zones[{i}].name", seen=name, fix="give each zone a name of its own")


class CameraConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One camera: `name` is its level in the topics, `source` a path or URL as `capture.make_source` takes it.

    Without `model`, `sampling` or `detect` it has the device's. A login stands in `username` and
    `password_file`, not in `source`. `decode` "keyframes_when_idle" decodes only key frames while nothing moves.
    """

    name: str
    source: str
    enabled: bool = True
    username: str | None = None
    password_file: str | None = None
    model: str | None = None
    decode: Decode = "all"
    sampling: Sampling | None = None
    detect: Detect | None = None
    rtsp_transport: Literal["tcp", "udp"] = "tcp"
    open_timeout_s: float = 10.0
    stall_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        check_name("camera.name", self.name)
        check_source("camera.source", self.source)
        check_login("camera", self.username, self.password_file)
        if self.username is not None:
            self._check_source_takes_login()
        check_path("camera.model", self.model)
        check_above_zero("camera.open_timeout_s", self.open_timeout_s, MAX_TIMEOUT_S)
        check_between("camera.stall_timeout_s", self.stall_timeout_s, MIN_STALL_S, MAX_TIMEOUT_S)

    def _check_source_takes_login(self) -> None:
        if scheme(self.source) not in LOGIN_SCHEMES:
            fix = "only rtsp(s):// and http(s):// take a username: leave it out"
            raise BadConfig("camera.source", seen=redact(self.source), fix=fix)
        if "@" in self.source:
            fix = "a login is in the URL and in username: take it out of the URL (an @ that is none is %40)"
            raise BadConfig("camera.source", seen=redact(self.source), fix=fix)
