"""What `edge-agent tune` measured of a bundle on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from agent.backends.choice import Choice  # noqa: TC001 - msgspec reads the annotations

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.backends.usable import Backend
    from agent.hardware import Board


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the figures depend on besides the weights. `runtimes` are names and versions of those that can run."""

    board: str
    soc: str | None
    cpu: str | None
    usable_cpus: int
    l4t: str | None
    runtimes: dict[str, str | None]
    power_mode: str | None = None

    @classmethod
    def of(cls, board: Board, backends: Iterable[Backend]) -> Device:
        """Return that of this device."""
        runtimes = {each.name: each.version for each in backends if each.usable is not False}
        return cls(board.name, board.soc, board.cpu, board.usable_cpus, board.l4t, runtimes, board.power_mode)

    def differences(self, then: Device) -> tuple[str, ...]:
        """Return what is not as it was `then`, in words.

        A version that can't be told now is no difference, nor is a runtime that is gone: the others' figures hold.
        """
        found = []
        for name in ("board", "soc", "cpu", "usable_cpus", "l4t", "power_mode"):
            before, now = getattr(then, name), getattr(self, name)
            if before != now:
                found.append(f"{name.replace('_', ' ')}: {before} then, {now} now")
        for name, now in self.runtimes.items():
            before = then.runtimes.get(name, "none")
            if before != now and now is not None:
                found.append(f"{name}: {before} then, {now} now")
        return tuple(found)


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A choice and its bare inferences; the figures are None where it did not come to any.

    `batch` is how many pictures were taken at once, those of all cameras or the most that the engine takes;
    `batch_ms` the median of that many together. `peak_rss_mb` (10**6 bytes) is that of a process which did
    nothing else. `before_c` and `after_c` are the device's hottest zone before the first and after the last
    inference. `objection` says why it may not be taken.
    """

    choice: Choice
    inferences: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    batch: int = 1
    batch_ms: float | None = None
    peak_rss_mb: float | None = None
    before_c: float | None = None
    after_c: float | None = None
    objection: str = ""

    @property
    def each_ms(self) -> float | None:
        """What one picture takes, where as many wait as there are cameras."""
        return self.p50_ms if self.batch_ms is None else self.batch_ms / self.batch


class Tuning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that was measured of a bundle.

    `artifacts` are the sha256 of its weights by file. `time` is UTC (RFC 3339). `chosen` is None where nothing
    may run. `absent` tells what could not be measured, `notes` what disturbed. `cameras` are those whose pictures
    wait together.
    """

    model: str
    artifacts: dict[str, str]
    device: Device
    time: str
    rounds: int
    measured: tuple[Measured, ...]
    chosen: Choice | None
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    cameras: int = 1
    schema: Literal[1] = 1
