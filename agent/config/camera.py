"""The settings of one camera."""

from __future__ import annotations

from typing import Literal

import msgspec

from agent.errors import BadConfig
from agent.topics import check_name

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
        _positive("sampling.hz", self.hz)
        _positive("sampling.min_hz", self.min_hz)
        _positive("sampling.max_hz", self.max_hz)
        if self.every_n < 1:
            raise BadConfig("sampling.every_n", seen=self.every_n, fix="use 1 or more")
        if self.min_hz > self.max_hz:
            raise BadConfig("sampling.min_hz", seen=self.min_hz, fix=f"must not exceed max_hz {self.max_hz}")
        if not 0 < self.threshold < 1:
            raise BadConfig("sampling.threshold", seen=self.threshold, fix="a share of the picture, 0 to 1")


class Zone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named polygon, corners as fractions 0..1 of the frame; `labels` empty means every label."""

    name: str
    polygon: tuple[tuple[float, float], ...]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or any(c in self.name for c in "/+#"):
            raise BadConfig("zone name", seen=repr(self.name), fix="one or more characters without / + #")
        check_polygon(f"zone {self.name}", self.polygon)


class Detect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What counts as an object and as a change of one. Times in seconds, never frames.

    An object becomes an event when its score reaches `threshold` (`thresholds` per label; None: the model's
    own) and it has been seen for `min_duration_s`; it keeps it down to `threshold - hysteresis`; it ends when
    it has not been seen for `end_after_s`. `labels` empty means every label; `masks` are polygons where
    nothing counts. Something still for `stationary_s` is stationary; when it is lost and comes back in its
    place within `stationary_memory_s`, it is not announced again (0: it is).
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
    masks: tuple[tuple[tuple[float, float], ...], ...] = ()

    def __post_init__(self) -> None:
        by_label = {f"thresholds.{label}": value for label, value in self.thresholds.items()}
        for name, value in {"threshold": self.threshold, **by_label}.items():
            if value is not None and not 0 < value <= 1:
                raise BadConfig(f"detect.{name}", seen=value, fix="a score above 0, up to 1")
        if not 0 <= self.hysteresis < 1:
            raise BadConfig("detect.hysteresis", seen=self.hysteresis, fix="0 or more, below 1")
        for name in ("end_after_s", "update_s", "stationary_s"):
            _positive(f"detect.{name}", getattr(self, name))
        for name in ("min_duration_s", "stationary_memory_s"):
            if not getattr(self, name) >= 0:
                raise BadConfig(f"detect.{name}", seen=getattr(self, name), fix="0 or more seconds")
        for mask in self.masks:
            check_polygon("mask", mask)
        names = [zone.name for zone in self.zones]
        if len(set(names)) < len(names):
            raise BadConfig("zone names", seen=", ".join(names), fix="give each zone a name of its own")


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
        if not self.source.strip():
            raise BadConfig("camera.source", seen=repr(self.source), fix="give a path or URL")
        if self.password_file is not None and self.username is None:
            raise BadConfig("camera.username", seen="none", fix="a password_file needs a username")
        _positive("camera.open_timeout_s", self.open_timeout_s)
        _positive("camera.stall_timeout_s", self.stall_timeout_s)


def check_polygon(what: str, polygon: tuple[tuple[float, float], ...]) -> None:
    """Raise BadConfig unless `polygon` has three corners or more, all within 0..1."""
    if len(polygon) < 3:
        raise BadConfig(f"{what}: corners", seen=len(polygon), fix="give three corners or more")
    for corner in polygon:
        if not all(0 <= c <= 1 for c in corner):
            raise BadConfig(f"{what}: corner", seen=corner, fix="corners are fractions 0..1 of the frame")
    following = (*polygon[1:], polygon[0])
    if not sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(polygon, following, strict=True)):
        raise BadConfig(f"{what}: area", seen=0, fix="give corners that enclose something")


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise BadConfig(name, seen=value, fix="must be above 0")
