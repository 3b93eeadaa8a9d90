"""The payloads, version 1: one struct for each kind of message."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - msgspec reads the annotations
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from agent.topics import NAME_BYTES

SCHEMA_VERSION: Final = 1

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]
Time = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", description="RFC 3339, UTC")]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_BYTES, pattern="^[^/+#$]*$")]
Lane = Literal["GAP", "P0", "P1", "P2"]
Verdict = Literal["ok", "degraded", "stuck"]
EndReason = Literal["aborted", "crashed", "fault", "killed"]
DETAIL_BYTES: Final = 2048


class FrameInfo(msgspec.Struct, frozen=True):
    """The frame an event was decided on: its number and time in the source, its age when it was told."""

    seq: Count
    pts_s: float
    age_ms: float


class Model(msgspec.Struct, frozen=True):
    """What was inferred with."""

    name: str
    version: Count
    sha256: str
    precision: str
    backend: str


class Sampling(msgspec.Struct, frozen=True):
    """How often was looked; `miss_window_s` is the longest an object can stay unseen, None if unbounded."""

    mode: str
    effective_hz: Annotated[float, Meta(ge=0)]
    miss_window_s: float | None


class EventMessage(msgspec.Struct, frozen=True):
    """A change in the life of one object. `id` (device/epoch/lane/seq) is the de-duplication key."""

    schema: Literal[1]
    id: str
    type: Literal["new", "update", "end"]
    event_id: str
    device: Name
    camera: Name
    label: str
    score: Share
    top_score: Share
    box: Annotated[
        tuple[Share, Share, Share, Share], Meta(description="x1, y1, x2, y2 as shares of the frame")
    ]
    frame_size: Annotated[tuple[Count, Count], Meta(description="width, height in pixels")]
    zones: tuple[str, ...]
    stationary: bool
    start_time: Time
    end_time: Time | None
    time: Time
    clock_synced: bool
    boot_id: str
    mono_ns: Count
    frame: FrameInfo
    model: Model
    sampling: Sampling
    reason: str | None = None


class Previous(msgspec.Struct, frozen=True):
    """An epoch before this one: its epoch and the last number of each lane, to prove a tail complete."""

    epoch: str
    last_seq: dict[Lane, Count]


class LastEnd(msgspec.Struct, frozen=True):
    """The bad end of the run before this one, and what it could still say: what hung, the fault, its threads' stacks.

    aborted: by the watchdog, or by a library; crashed: another fatal signal; fault: one that Python knew; killed: by
    kill -9, for memory, or with the power, `time` being its last sign of life.
    """

    reason: EndReason
    time: Time
    detail: Annotated[str, Meta(max_length=DETAIL_BYTES)]


class Status(msgspec.Struct, frozen=True):
    """Birth (online) and last will (offline), retained; `earlier`: the epochs before `previous`, the latest first."""

    schema: Literal[1]
    state: Literal["online", "offline"]
    device: Name
    boot_id: str
    version: str
    epoch: str
    previous: Previous | None = None
    last_end: LastEnd | None = None
    earlier: tuple[Previous, ...] = ()


class StateMessage(msgspec.Struct, frozen=True):
    """How many objects of one label a camera has now, and since when it has that many; retained."""

    schema: Literal[1]
    count: Count
    active: bool
    since: Time


class Stats(msgspec.Struct, frozen=True):
    """Numbers of the agent itself."""

    schema: Literal[1]
    id: str
    device: Name
    boot_id: str
    time: Time
    values: dict[str, float]


class Gap(msgspec.Struct, frozen=True):
    """Messages that will not come: `count` of those from `from_seq` to `to_seq`, both included."""

    schema: Literal[1]
    epoch: str
    lane: Lane
    from_seq: Count
    to_seq: Count
    count: Count
    reason: str


class CameraHealth(msgspec.Struct, frozen=True):
    """How a camera does, since when, and what is known about it."""

    state: str
    since: Time
    detail: str


class BrokerHealth(msgspec.Struct, frozen=True):
    """What the reader of this message can't see for himself of the way to the broker."""

    protocol: str
    denied_topics: tuple[str, ...]
    rejected: Count


class OutboxHealth(msgspec.Struct, frozen=True):
    """`durable`: what is queued survives a restart; `failing`: why the disk refuses now, or ""."""

    durable: bool
    failing: str
    repaired: Count


class ModelHealth(msgspec.Struct, frozen=True):
    """The model of the cameras that name none of their own; `bundle_sha` is that of its manifest.

    `source`: factory is the shipped one, store what was installed, config what the configuration names. `state`:
    pending is an installed one that has still to prove itself.
    """

    name: str
    version: Count
    sha256: str
    bundle_sha: str
    source: Literal["factory", "store", "config"]
    state: Literal["factory", "committed", "pending", "config"]


class Health(msgspec.Struct, frozen=True):
    """The verdict on the agent as of `time`, told when something in it changes; retained."""

    schema: Literal[1]
    verdict: Verdict
    reasons: tuple[str, ...]
    cameras: dict[str, CameraHealth]
    broker: BrokerHealth
    outbox: OutboxHealth
    clock_synced: bool
    time: Time
    agent_version: str = ""
    model: ModelHealth | None = None


class SamplingSettings(msgspec.Struct, frozen=True):
    """How a camera is sampled: the keys of `[camera.sampling]`."""

    mode: Literal["uniform", "interval", "motion"]
    hz: float
    every_n: int
    min_hz: float
    max_hz: float
    threshold: float


class CameraSettings(msgspec.Struct, frozen=True):
    """How a camera is set now, by its configuration or by a command; retained."""

    schema: Literal[1]
    enabled: bool
    sampling: SamplingSettings


class ModelOffer(msgspec.Struct, frozen=True):
    """A model that an operator offers to all devices of a root: a zip of a signed bundle; retained."""

    schema: Literal[1]
    name: Annotated[str, Meta(min_length=1, max_length=100)]
    version: Annotated[int, Meta(ge=1)]
    url: Annotated[str, Meta(pattern="^https?://", max_length=2000)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class ModelUpdate(msgspec.Struct, frozen=True):
    """The model at work and the one that is offered as "name version", and how far its installation is; retained."""

    schema: Literal[1]
    installed_version: str
    latest_version: str
    in_progress: bool
    update_percentage: Annotated[int, Meta(ge=0, le=100)] | None


CommandId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
CommandState = Literal["accepted", "progress", "done", "failed", "rejected"]


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a device is told to do: `op` with `args`, once for each `id`, not after `expires`, a day ahead at most."""

    schema: Literal[1]
    id: CommandId
    expires: Annotated[datetime, Meta(tz=True)]
    op: Annotated[str, Meta(min_length=1, max_length=64)]
    args: dict[str, Any] = {}


class CommandResult(msgspec.Struct, frozen=True):
    """An answer to the command `id`: accepted, progress of it, and in the end one of done, failed, rejected.

    `reason` says why it failed or was rejected. `id` and `op` are "" where the command could not be read.
    """

    schema: Literal[1]
    id: str
    op: str
    state: CommandState
    reason: str
    result: Any
    time: Time
