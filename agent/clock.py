"""The wall clock: what it says, and whether a time server has set it. Nothing but what is told goes by it."""

from __future__ import annotations

import logging
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agent import wire

if TYPE_CHECKING:
    from agent.transport import Message

log = logging.getLogger(__name__)

TIMESYNCD = Path("/run/systemd/timesync/synchronized")
"""systemd-timesyncd makes this file when it sets the clock for the first time since boot."""
CHRONY = ("127.0.0.1", 323)
"""Where chronyd answers (cmdport of chrony.conf); `tracking` is open to every local user."""
_ANSWER_S = 0.3
_REQUEST = struct.Struct(
    "!BBxxHxxI8x84x"
)  # version, request, command, sequence; padded to the reply's length
_REPLY = struct.Struct("!BBxxHHH6xI8x")  # version, reply, command, kind, status, sequence
_TRACKING = struct.Struct("!I22xH")  # reference id, (its address, stratum), leap status
_VERSION, _ASK, _ANSWER, _SEQUENCE = 6, 1, 2, 1
_TRACKING_COMMAND, _TRACKING_REPLY = 33, 5
_LOCAL, _UNSYNCHRONISED = 0x7F7F0101, 3
"""chronyd's own clock as the reference (`local stratum`), and its leap status without any."""


class _Seen:
    """What `look` found last."""

    synced = False


def clock_synced() -> bool:
    """Return whether a time server has set the clock since boot, as `look` found last: it never waits."""
    return _Seen.synced


def look() -> bool:
    """Ask whether the clock is set by now, for at most a third of a second; once it is, it stays so."""
    if not _Seen.synced and (TIMESYNCD.exists() or chrony_synced(CHRONY)):
        _Seen.synced = True
    return _Seen.synced


def time_base(*, zero_s: float = 0.0) -> wire.TimeBase:
    """Return how the logic clock maps to UTC now; its 0 is `zero_s` of CLOCK_MONOTONIC."""
    synced = clock_synced()  # before the offset: one that counts as set must not be of before that
    offset_s = _offset_s()
    return wire.TimeBase(offset_s + zero_s, synced, None if synced else offset_s)


def freshen(message: Message) -> bytes:
    """Return what to send of `message`: made before the clock was set, it gets the times of the clock set since."""
    if message.offset_s is None or not clock_synced():
        return message.payload
    return wire.restamp(message.payload, _offset_s() - message.offset_s)


def chrony_synced(address: tuple[str, int]) -> bool:
    """Return whether the chronyd at `address` says that a time source has set the clock.

    Speaks version 6 of chrony's command protocol (candm.h of chrony 2.0 to 4.x): one datagram each way.
    """
    with suppress(OSError, struct.error), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.settimeout(_ANSWER_S)
        link.connect(address)
        link.send(_REQUEST.pack(_VERSION, _ASK, _TRACKING_COMMAND, _SEQUENCE))
        return _set_by_others(link.recv(1024))
    return False


def _set_by_others(reply: bytes) -> bool:
    """Tell what chrony's answer says. Raises struct.error when it is too short."""
    expected = (_VERSION, _ANSWER, _TRACKING_COMMAND, _TRACKING_REPLY, 0, _SEQUENCE)
    if _REPLY.unpack_from(reply) != expected:
        return False
    reference, leap = _TRACKING.unpack_from(reply, _REPLY.size)
    return leap != _UNSYNCHRONISED and reference not in {0, _LOCAL}


def _offset_s() -> float:
    return time.time() - time.monotonic()
