"""What the runs before this one left behind when they were killed: open events get their end, counts go to 0."""

from __future__ import annotations

import contextlib
import logging
import time
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from agent import wire
from agent.outbox.ledger import Lane
from agent.outbox.outbox import Note

if TYPE_CHECKING:
    from pathlib import Path

    from agent.outbox.ledger import MessageId
    from agent.outbox.outbox import Outbox
    from agent.publisher.publisher import Publisher
    from agent.topics import Topics

log = logging.getLogger(__name__)

REASON = "restart"
_EVENT, _STATE = "event/", "state/"


def event_note(event_id: str) -> str:
    """Return the key under which the outbox remembers that an event is open."""
    return _EVENT + event_id


def state_note(topic: str) -> str:
    """Return the key under which the outbox remembers that a retained count was told on `topic`."""
    return _STATE + topic


def last_written_s(outbox_file: Path) -> float:
    """Return when the outbox was written last, as UTC seconds; 0.0 without one. To be asked before it is opened."""
    written_s = [0.0]
    for path in (outbox_file, outbox_file.with_name(outbox_file.name + "-wal")):
        with contextlib.suppress(OSError):
            written_s.append(path.stat().st_mtime)
    return max(written_s)


def settle(
    outbox: Outbox,
    publisher: Publisher,
    *,
    topics: Topics,
    identity: wire.Identity,
    utc: wire.TimeBase,
    alive_s: float = 0.0,
) -> None:
    """Queue an `end` for each event that was left open, and tell 0 where a count was retained.

    To be called before any camera reports. An event that was open when the agent died ends at its last sign of
    life, `alive_s` in UTC, not before its last message.
    """
    ended = 0
    for key, value in outbox.left.items():
        if key.startswith(_EVENT):
            ended += _end(key, value, outbox, publisher, topics, identity, utc, alive_s)
        elif key.startswith(_STATE) and key.startswith(state_note(topics.base + "/")):
            _tell_none(key.removeprefix(_STATE), outbox, publisher, utc)
    if ended:
        log.warning("%d events were open when the agent ended last: closed (reason %s)", ended, REASON)


def _end(
    key: str,
    payload: bytes,
    outbox: Outbox,
    publisher: Publisher,
    topics: Topics,
    identity: wire.Identity,
    utc: wire.TimeBase,
    alive_s: float,
) -> bool:
    try:
        last = msgspec.json.decode(payload, type=wire.EventMessage)
    except msgspec.DecodeError as fault:
        log.error("the event of note %s can't be read (%s): it gets no end", key, fault)
        outbox.note(key, None)
        return False

    offset_s = None
    if not last.clock_synced and last.boot_id == identity.boot_id:
        offset_s = utc.shift_from_s  # still not set: all its times are corrected together, when it is
        if utc.synced:
            last = msgspec.json.decode(
                wire.restamp(payload, utc.utc_offset_s - _offset_s(last)), type=wire.EventMessage
            )

    def encode(message_id: MessageId) -> bytes:
        now_s = time.monotonic()
        return msgspec.json.encode(
            msgspec.structs.replace(
                last,
                id=str(message_id),
                type="end",
                device=identity.device,
                end_time=max(last.time, min(wire.rfc3339(alive_s), utc.utc(now_s))),
                time=utc.utc(now_s),
                clock_synced=last.clock_synced and utc.synced,
                boot_id=identity.boot_id,
                mono_ns=round(now_s * 1e9),
                reason=REASON,
            )
        )

    outbox.put(Lane.P0, topics.events(last.camera), encode, offset_s=offset_s, note=Note(key, keep=False))
    _tell_none(topics.state(last.camera, last.label), outbox, publisher, utc)
    return True


def _offset_s(event: wire.EventMessage) -> float:
    """Return UTC less CLOCK_MONOTONIC as the clocks of this boot were when `event` was told."""
    told_s = datetime.fromisoformat(event.time.removesuffix("Z") + "+00:00").timestamp()
    return told_s - (event.mono_ns / 1e9 - event.frame.age_ms / 1e3)


def _tell_none(topic: str, outbox: Outbox, publisher: Publisher, utc: wire.TimeBase) -> None:
    """Tell on `topic` that nothing is there. The note stays: the broker may not hear of it in this run either."""
    payload = wire.encode_state(count=0, active=False, since_s=time.monotonic(), time=utc)
    publisher.retain(topic, payload)
    outbox.note(state_note(topic), payload)
