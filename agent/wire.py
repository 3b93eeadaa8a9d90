"""Wire format, version 1: payloads and their JSON Schema, generated from the same structs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from agent.topics import NAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.messages import Event, Frame

SCHEMA_VERSION: Final = 1

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]
Time = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", description="RFC 3339, UTC")]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_BYTES, pattern="^[^/+#$]*$")]
Lane = Literal["GAP", "P0", "P1", "P2"]


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
    """The run before this one: its epoch and the last number of each lane, to prove a tail complete."""

    epoch: str
    last_seq: dict[Lane, Count]


class Status(msgspec.Struct, frozen=True):
    """Birth (online) and last will (offline), retained."""

    schema: Literal[1]
    state: Literal["online", "offline"]
    device: Name
    boot_id: str
    version: str
    epoch: str
    previous: Previous | None = None


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


SCHEMAS: dict[str, type[msgspec.Struct]] = {
    "event": EventMessage,
    "status": Status,
    "state": StateMessage,
    "stats": Stats,
    "gap": Gap,
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who speaks: the device's name and the boot it is in."""

    device: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class TimeBase:
    """From the logic clock to UTC: utc = time_s + utc_offset_s, and whether that clock was synchronised."""

    utc_offset_s: float
    synced: bool

    def utc(self, time_s: float) -> str:
        """Return `time_s` of the logic clock as RFC 3339."""
        return _rfc3339(time_s + self.utc_offset_s)


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """What an event tells of its frame; `captured_s` is on CLOCK_MONOTONIC."""

    seq: int
    pts_s: float
    captured_s: float
    width_px: int
    height_px: int

    @staticmethod
    def of(frame: Frame) -> FrameFacts:
        """Return the facts of `frame` without its picture."""
        width_px, height_px = frame.size
        return FrameFacts(frame.seq, frame.pts_s, frame.captured_s, width_px, height_px)


def encode_event(
    event: Event,
    *,
    message_id: str,
    identity: Identity,
    frame: FrameFacts,
    now_s: float,
    model: Model,
    sampling: Sampling,
    time: TimeBase,
) -> bytes:
    """Return the payload of `event`, decided on `frame`; `now_s` is CLOCK_MONOTONIC at this moment."""
    return msgspec.json.encode(
        EventMessage(
            schema=SCHEMA_VERSION,
            id=message_id,
            type=event.type,
            event_id=event.event_id,
            device=identity.device,
            camera=event.camera,
            label=event.label,
            score=round(event.score, 4),
            top_score=round(event.top_score, 4),
            box=(_share(event.box[0]), _share(event.box[1]), _share(event.box[2]), _share(event.box[3])),
            frame_size=(frame.width_px, frame.height_px),
            zones=event.zones,
            stationary=event.stationary,
            start_time=time.utc(event.start_s),
            end_time=None if event.end_s is None else time.utc(event.end_s),
            time=time.utc(event.time_s),
            clock_synced=time.synced,
            boot_id=identity.boot_id,
            mono_ns=round(now_s * 1e9),
            frame=FrameInfo(frame.seq, round(frame.pts_s, 6), round((now_s - frame.captured_s) * 1e3, 1)),
            model=model,
            sampling=sampling,
            reason=event.reason,
        )
    )


def encode_birth(identity: Identity, *, version: str, epoch: str, previous: Previous | None) -> bytes:
    """Return the payload that says online."""
    return _status("online", identity, version, epoch, previous)


def encode_offline(identity: Identity, *, version: str, epoch: str) -> bytes:
    """Return the payload that says offline: the last will, and the farewell."""
    return _status("offline", identity, version, epoch, None)


def encode_state(*, count: int, active: bool, since_s: float, time: TimeBase) -> bytes:
    """Return the payload of a retained count; `since_s` is on the logic clock."""
    return msgspec.json.encode(StateMessage(SCHEMA_VERSION, count, active, time.utc(since_s)))


def encode_stats(values: Mapping[str, float], *, message_id: str, identity: Identity, utc_s: float) -> bytes:
    """Return the payload of the agent's numbers at `utc_s` seconds of the epoch."""
    stats = Stats(
        SCHEMA_VERSION, message_id, identity.device, identity.boot_id, _rfc3339(utc_s), dict(values)
    )
    return msgspec.json.encode(stats)


def json_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the payload `name` of SCHEMAS."""
    schema = msgspec.json.schema(SCHEMAS[name])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:edge-agent:{name}-v{SCHEMA_VERSION}",
        **schema,
    }


def write_schemas(folder: Path = Path(__file__).parent / "schema") -> None:
    """Write every schema into `folder` as it is shipped: <name>-v1.schema.json."""
    for name in SCHEMAS:
        text = msgspec.json.format(msgspec.json.encode(json_schema(name), order="sorted"), indent=2)
        (folder / f"{name}-v{SCHEMA_VERSION}.schema.json").write_bytes(text + b"\n")


def boot_id(path: Path = Path("/proc/sys/kernel/random/boot_id")) -> str:
    """Return the kernel's random id of this boot, "unknown" where there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def clock_synced(marker: Path = Path("/run/systemd/timesync/synchronized")) -> bool:
    """Return whether systemd-timesyncd has set the clock since boot."""
    return marker.exists()


def _status(
    state: Literal["online", "offline"],
    identity: Identity,
    version: str,
    epoch: str,
    previous: Previous | None,
) -> bytes:
    status = Status(SCHEMA_VERSION, state, identity.device, identity.boot_id, version, epoch, previous)
    return msgspec.json.encode(status)


def _share(value: float) -> float:
    return round(min(max(value, 0.0), 1.0), 5)


def _rfc3339(utc_s: float) -> str:
    text = datetime.fromtimestamp(utc_s, timezone.utc).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"
