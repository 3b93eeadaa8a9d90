"""What all numbers are taken from: the agent at one moment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from agent.hardware.files import entries, read_line
from agent.histogram import Distribution, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.hardware import Throttling
    from agent.outbox.ledger import Lane
    from agent.outbox.outbox import OutboxState
    from agent.outbox.stored import Account
    from agent.publisher.state import PublisherState
    from agent.recent import Percentiles
    from agent.throttle import Budget
    from agent.wire import Verdict

NONE_YET = Histogram().read()


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraSample:
    """A camera: counts since the agent started it. `dropped` are frames not inferred, by reason.

    `source_hz` and `inferred_hz` are the rates of now, 0 while unknown or away; `miss_window_s` is None while
    unbounded. `age` is how old a frame was when its events were decided, `recent_age` in the last minute;
    `failures` how often its source failed or lost its connection.
    """

    name: str
    state: str
    frames: int
    inferred: int
    dropped: Mapping[str, int]
    events: int
    failures: int = 0
    source_hz: float = 0.0
    inferred_hz: float = 0.0
    miss_window_s: float | None = None
    age: Distribution = NONE_YET
    recent_age: Percentiles | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSample:
    """A model at work: how its engine runs it, how long each stage of a frame took, and `recent` inferences."""

    model: str
    backend: str
    delegated_nodes: int
    stages: Mapping[str, Distribution] = field(default_factory=dict)
    recent: Percentiles | None = None


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """The process: memory that is resident, open file descriptors, threads."""

    memory_bytes: int = 0
    descriptors: int = 0
    threads: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The agent at one moment. `outbox` and `publisher` are what they say of themselves, `lanes` the accounts.

    `commands` are those that came over MQTT, by what became of them.
    """

    version: str
    device: str
    uptime_s: float
    verdict: Verdict
    clock_synced: bool
    cameras: tuple[CameraSample, ...]
    engines: tuple[EngineSample, ...]
    lanes: Mapping[Lane, Account]
    outbox: OutboxState
    publisher: PublisherState
    throttling: Throttling
    budget: Budget
    process: ProcessSample
    commands: Mapping[str, int] = field(default_factory=dict)

    @property
    def fps(self) -> float | None:
        """Inferred frames a second, of all cameras; None before there are any."""
        rates = [camera.inferred_hz for camera in self.cameras if camera.inferred]
        return sum(rates) if rates else None

    @property
    def infer(self) -> Percentiles | None:
        """Inferences of the last minute, of the slowest model."""
        return slowest(engine.recent for engine in self.engines)

    @property
    def age(self) -> Percentiles | None:
        """Ages of frames in the last minute, of the camera with the oldest."""
        return slowest(camera.recent_age for camera in self.cameras)

    @property
    def drops(self) -> int:
        """Frames that a newer one replaced, of the cameras of now."""
        return sum(camera.dropped.get("replaced", 0) for camera in self.cameras)

    @property
    def gaps(self) -> int:
        """Messages of this run that will not come."""
        return sum(account.evicted + account.corrupt for account in self.lanes.values())

    @property
    def hottest_c(self) -> float | None:
        """The temperature of the hottest zone; None without a sensor."""
        zones = (zone.temperature_c for zone in self.throttling.zones if zone.temperature_c is not None)
        return max(zones, default=None)


def slowest(found: Iterable[Percentiles | None]) -> Percentiles | None:
    """Return that with the highest p95."""
    return max(filter(None, found), key=lambda each: each.p95_s, default=None)


def read_process(root: Path = Path("/proc/self")) -> ProcessSample:
    """Return the numbers of this process; 0 for what can't be read."""
    pages = (read_line(root / "statm") or "").split()
    memory_bytes = int(pages[1]) * os.sysconf("SC_PAGESIZE") if len(pages) > 1 and pages[1].isdigit() else 0
    return ProcessSample(memory_bytes, len(entries(root / "fd")), len(entries(root / "task")))
