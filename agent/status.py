"""What a running agent tells of itself on its control socket: the answer to `status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent import wire  # noqa: TC001 - msgspec reads the annotations
from agent.errors import ServiceAway

if TYPE_CHECKING:
    from agent.recent import Percentiles


class Spread(msgspec.Struct, frozen=True):
    """Half and 95 % of what took place in the last minute took so long at most, in milliseconds."""

    p50: float
    p95: float

    @staticmethod
    def of(found: Percentiles | None) -> Spread | None:
        """Return what was `found`; None: nothing took place."""
        return None if found is None else Spread(round(found.p50_s * 1e3, 2), round(found.p95_s * 1e3, 2))


class CameraStatus(msgspec.Struct, frozen=True):
    """A camera: how it does and for how long, frames since the agent started it, and what became of them.

    `suppressed` were not inferred because the picture could not be trusted. `fps` is how many were inferred a
    second lately, `age_ms` how old they were when they were decided on; None: none were.
    """

    name: str
    state: str
    for_s: float
    detail: str
    rate_hz: float
    frames: int
    inferred: int
    not_sampled: int
    replaced: int
    suppressed: int
    events: int
    fps: float | None = None
    age_ms: Spread | None = None


class EngineStatus(msgspec.Struct, frozen=True):
    """What runs for a model. `building` is how far the build of a better engine is, "" without one.

    `failures` say why engines could not be built, one line each.
    """

    model: str
    backend: str
    artifact: str
    precision: str
    building: str
    failures: tuple[str, ...]
    infer_ms: Spread | None = None


class BrokerStatus(msgspec.Struct, frozen=True):
    """The way out: to a broker, or to a file (protocol "file")."""

    connected: bool
    protocol: str
    in_flight: int
    delivered: int
    rejected: int
    denied_topics: tuple[str, ...]
    error: str


class LaneStatus(msgspec.Struct, frozen=True):
    """The account of this run's messages of one lane: allocated = confirmed + queued + evicted + corrupt.

    `rejected` are those of the evicted that the other side refused for good.
    """

    allocated: int
    confirmed: int
    queued: int
    evicted: int
    corrupt: int
    rejected: int


class OutboxStatus(msgspec.Struct, frozen=True):
    """`queued` is all that waits, of earlier runs too."""

    lanes: dict[str, LaneStatus]
    queued: int
    used_bytes: int
    max_bytes: int
    durable: bool
    failing: str
    repaired: int


class Status(msgspec.Struct, frozen=True):
    """All of it, as of `time`.

    `model` is what cameras run that name none. Over all cameras: `fps` inferred, `infer_ms` of the slowest model,
    `age_ms` of the oldest frames, `drops` that a newer frame replaced. `gaps` counts messages that will not come.
    None: there is no such number yet.
    """

    verdict: wire.Verdict
    reasons: tuple[str, ...]
    device: str
    version: str
    pid: int
    uptime_s: float
    time: str
    clock_synced: bool
    state_dir: str
    epoch: str
    cameras: tuple[CameraStatus, ...]
    engines: tuple[EngineStatus, ...]
    broker: BrokerStatus
    outbox: OutboxStatus
    model: wire.ModelHealth | None = None
    fps: float | None = None
    infer_ms: Spread | None = None
    age_ms: Spread | None = None
    drops: int = 0
    gaps: int = 0
    temperature_c: float | None = None
    throttled: bool = False


def read(answer: bytes) -> Status:
    """Return what an agent answered to `status`. Raises ServiceAway when that is something else."""
    try:
        return msgspec.json.decode(answer, type=Status)
    except msgspec.MsgspecError:
        fix = "is it of another version? Restart it after an update"
        raise ServiceAway(
            "the agent's answer can't be read", seen=answer[:200].decode(errors="replace"), fix=fix
        ) from None
