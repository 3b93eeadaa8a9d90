"""Packets of a session, in order, and the queue from the thread that reads to the one that decodes."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import av

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from av.packet import Packet

    from agent.capture.opening import Session

MAX_QUEUED = 1024
MAX_BACKLOG_S = 1.0
"""A decoder that is further behind is too slow for the stream."""
SETTLE_S = 5.0
"""For so long after a connection it may be this far behind: servers begin with a burst, often a whole GOP."""
LINEAR = ("matroska,webm", "mpegts")
"""Formats whose packets lie one after the other: a stretch without any is damage."""
TORN_BYTES = 2048
MAX_BAD_READS = 50
MAX_KEPT, MAX_KEPT_BYTES = 1024, 16 << 20
"""Most that is kept undecoded in idle: 40 s at 25 frames/s, 16 s at 8 Mbit/s."""


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """A packet of a session and its arrival on the monotonic clock. None is its end: flush the decoder.

    `torn`: data is missing before or in the packet of a file.
    """

    packet: Packet[Any] | None
    session: Session
    arrived_s: float
    torn: bool = False


def read_packets(session: Session, now: Callable[[], float]) -> Iterator[Arrival | None]:
    """Yield the video packets of `session`, None for those of other streams; at last its end.

    PyAV ends with empty packets, and some files have empty ones within, which a decoder takes for the end:
    they are left out. Data of a file that FFmpeg can't parse is stepped over, up to MAX_BAD_READS times in a
    row. A live source raises av.FFmpegError, for its silence may look like bad data.
    """
    bad_reads, seam = 0, Seam(session)
    while bad_reads < MAX_BAD_READS:
        try:
            for packet in session.container.demux():
                bad_reads = 0
                torn = seam.torn(packet)
                wanted = packet.size and packet.stream_index == session.stream_index
                yield Arrival(packet, session, now(), torn) if wanted else None
            break
        except av.error.InvalidDataError:
            if session.live:
                raise
            bad_reads += 1
            seam.broken = True
    yield Arrival(None, session, now())


class Seam:
    """Sees where the packets of a file do not follow each other without a break."""

    def __init__(self, session: Session) -> None:
        self._linear = not session.live and session.container.format.name in LINEAR
        self._stream_index = session.stream_index
        self._end_bytes: int | None = None
        self.broken = False

    def torn(self, packet: Packet[Any]) -> bool:
        """Return whether data is missing since the video packet before `packet`, or in it."""
        self.broken = self.broken or packet.is_corrupt
        if self._linear and packet.size and packet.pos is not None and packet.pos >= 0:
            hole_bytes = packet.pos - (packet.pos if self._end_bytes is None else self._end_bytes)
            self.broken = self.broken or hole_bytes > TORN_BYTES
            self._end_bytes = packet.pos + packet.size
        if packet.stream_index != self._stream_index:
            return False
        torn, self.broken = self.broken, False
        return torn


class PacketQueue:
    """Between the reader thread and the decoder: bounded in number, and on a live source in time.

    A finite source waits for room. A live one that is MAX_BACKLOG_S behind (SETTLE_S while a connection is
    young) throws all of it away (`dropped` counts), for the decoder would never be current again; what
    follows waits for a key frame.
    """

    def __init__(self) -> None:
        self._items: deque[Arrival] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None
        self._session: Session | None = None
        self._began_s = 0.0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Arrival) -> None:
        """Append `item`, waiting for room or making some."""
        with self._changed:
            if item.session.live:
                self._make_room(item)
            else:
                self._changed.wait_for(lambda: self._closed or len(self._items) < MAX_QUEUED)
            if not self._closed:
                self._items.append(item)
                self._changed.notify_all()

    def get(self, timeout_s: float) -> Arrival | None:
        """Return the next item, None after `timeout_s`; at the end raise what `end` got, or EOFError."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._items), timeout_s)
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if self._closed:
                raise self._error or EOFError
            return None

    def settle(self, now_s: float) -> None:
        """Let the consumer be as far behind as after a connection: it decodes what it kept."""
        with self._changed:
            self._began_s = now_s

    def end(self, error: BaseException | None = None, *, discard: bool = False) -> None:
        """No more items; what waits is still given out unless `discard`. Then `get` raises `error`."""
        with self._changed:
            self._closed = True
            self._error = self._error or error
            if discard:
                self._items.clear()
            self._changed.notify_all()

    def _make_room(self, item: Arrival) -> None:
        if item.session is not self._session:
            self._session, self._began_s = item.session, item.arrived_s
        young = item.arrived_s - self._began_s <= SETTLE_S
        limit_s = SETTLE_S if young else MAX_BACKLOG_S
        late = self._items and item.arrived_s - self._items[0].arrived_s > limit_s
        if late or len(self._items) >= MAX_QUEUED:
            self.dropped += len(self._items)
            self._items.clear()


class Kept:
    """The packets from the last key frame that was looked at on, bounded; whole GOPs go first, oldest first."""

    def __init__(self, *, most: int = MAX_KEPT, most_bytes: int = MAX_KEPT_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._items: deque[Arrival] = deque()
        self._bytes = 0

    def add(self, item: Arrival) -> list[Arrival]:
        """Keep `item`; return what had to go for it, in order: it may be all, `item` too."""
        if not self._items and not _is_key(item):
            return [item]
        self._items.append(item)
        self._bytes += _size_bytes(item)
        gone: list[Arrival] = []
        while len(self._items) > self._most or self._bytes > self._most_bytes:
            gone.append(self._pop())
            while self._items and not _is_key(self._items[0]):
                gone.append(self._pop())
        return gone

    def take(self) -> list[Arrival]:
        """Return all that is kept, in order, and keep nothing."""
        taken = list(self._items)
        self._items.clear()
        self._bytes = 0
        return taken

    def _pop(self) -> Arrival:
        item = self._items.popleft()
        self._bytes -= _size_bytes(item)
        return item


def _is_key(item: Arrival) -> bool:
    return item.packet is not None and item.packet.is_keyframe


def _size_bytes(item: Arrival) -> int:
    return 0 if item.packet is None else item.packet.size
