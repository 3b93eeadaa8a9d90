"""Wire format, version 1: payloads encoded and re-stamped."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from agent.payloads import (
    SCHEMA_VERSION,
    BrokerHealth,
    CameraHealth,
    CameraSettings,
    Command,
    CommandResult,
    EventMessage,
    FrameInfo,
    Gap,
    Health,
    Lane,
    LastEnd,
    Model,
    ModelHealth,
    ModelOffer,
    ModelUpdate,
    OutboxHealth,
    Previous,
    Sampling,
    SamplingSettings,
    StateMessage,
    Stats,
    Status,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.messages import Event, Frame

__all__ = [
    "SCHEMA_VERSION",
    "BrokerHealth",
    "CameraHealth",
    "CameraSettings",
    "Command",
    "CommandResult",
    "EventMessage",
    "FrameFacts",
    "FrameInfo",
    "Gap",
    "Health",
    "Identity",
    "Lane",
    "LastEnd",
    "Model",
    "ModelHealth",
    "ModelOffer",
    "ModelUpdate",
    "OutboxHealth",
    "Previous",
    "Sampling",
    "SamplingSettings",
    "StateMessage",
    "Stats",
    "Status",
    "TimeBase",
    "Verdict",
    "boot_id",
    "encode_birth",
    "encode_event",
    "encode_offline",
    "encode_state",
    "encode_stats",
    "restamp",
]

_TIMES: Final = ("start_time", "end_time", "time")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who speaks: the device's name and the boot it is in."""

    device: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class TimeBase:
    """From the logic clock to UTC: utc = time_s + utc_offset_s, and whether that clock was synchronised.

    While it was not, `shift_from_s` is utc - CLOCK_MONOTONIC as it was then: what `restamp` corrects later.
    """

    utc_offset_s: float
    synced: bool
    shift_from_s: float | None = None

    def utc(self, time_s: float) -> str:
        """Return `time_s` of the logic clock as RFC 3339."""
        return rfc3339(time_s + self.utc_offset_s)


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


def encode_birth(
    identity: Identity,
    *,
    version: str,
    epoch: str,
    before: Sequence[Previous] = (),
    last_end: LastEnd | None = None,
) -> bytes:
    """Return the payload that says online; `before` are the epochs before, the latest first."""
    return _status("online", identity, version, epoch, before, last_end)


def encode_offline(identity: Identity, *, version: str, epoch: str) -> bytes:
    """Return the payload that says offline: the last will, and the farewell."""
    return _status("offline", identity, version, epoch)


def encode_state(*, count: int, active: bool, since_s: float, time: TimeBase) -> bytes:
    """Return the payload of a retained count; `since_s` is on the logic clock."""
    return msgspec.json.encode(StateMessage(SCHEMA_VERSION, count, active, time.utc(since_s)))


def encode_stats(values: Mapping[str, float], *, message_id: str, identity: Identity, utc_s: float) -> bytes:
    """Return the payload of the agent's numbers at `utc_s` seconds of the epoch."""
    stats = Stats(SCHEMA_VERSION, message_id, identity.device, identity.boot_id, rfc3339(utc_s), dict(values))
    return msgspec.json.encode(stats)


def restamp(payload: bytes, shift_s: float) -> bytes:
    """Return the payload of an event with its times moved by `shift_s`, now that the clock is synchronised.

    Their distances stay as they are, to the millisecond.
    """
    fields: dict[str, Any] = msgspec.json.decode(payload)
    shift = timedelta(milliseconds=round(shift_s * 1e3))
    for name in _TIMES:
        if (text := fields.get(name)) is not None:
            fields[name] = _text(datetime.fromisoformat(text.removesuffix("Z") + "+00:00") + shift)
    return msgspec.json.encode(fields | {"clock_synced": True})


def boot_id(path: Path = Path("/proc/sys/kernel/random/boot_id")) -> str:
    """Return the kernel's random id of this boot, "unknown" where there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def _status(
    state: Literal["online", "offline"],
    identity: Identity,
    version: str,
    epoch: str,
    before: Sequence[Previous] = (),
    last_end: LastEnd | None = None,
) -> bytes:
    status = Status(
        SCHEMA_VERSION,
        state,
        identity.device,
        identity.boot_id,
        version,
        epoch,
        previous=next(iter(before), None),
        last_end=last_end,
        earlier=tuple(before[1:]),
    )
    return msgspec.json.encode(status)


def _share(value: float) -> float:
    return round(min(max(value, 0.0), 1.0), 5)


def rfc3339(utc_s: float) -> str:
    """Return `utc_s` seconds of the epoch as RFC 3339 with milliseconds."""
    return _text(datetime.fromtimestamp(utc_s, timezone.utc))


def _text(utc: datetime) -> str:
    return utc.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
