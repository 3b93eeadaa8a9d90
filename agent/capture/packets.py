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
MAX_BACKLOG_S = 5.0
MAX_BAD_READS = 50


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """A packet of a session and its arrival on the monotonic clock. None is its end: flush the decoder."""

    packet: Packet[Any] | None
    session: Session
    arrived_s: float


def read_packets(session: Session, now: Callable[[], float]) -> Iterator[Arrival | None]:
    """Yield the video packets of `session`, None for those of other streams; at last its end.

    PyAV ends with empty packets, and some files have empty ones within, which a decoder takes for the end:
    they are left out. Data of a file that FFmpeg can't parse is stepped over, up to MAX_BAD_READS times in a
    row. A live source raises av.FFmpegError, for its silence may look like bad data.
    """
    bad_reads = 0
    while bad_reads < MAX_BAD_READS:
        try:
            for packet in session.container.demux():
                bad_reads = 0
                wanted = packet.size and packet.stream_index == session.stream_index
                yield Arrival(packet, session, now()) if wanted else None
            break
        except av.error.InvalidDataError:
            if session.live:
                raise
            bad_reads += 1
    yield Arrival(None, session, now())


class PacketQueue:
    """Between the reader thread and the decoder: bounded in number, and on a live source in time.

    A finite source waits for room. A live one that is MAX_BACKLOG_S behind throws all of it away (`dropped`
    counts), for the decoder would never be current again; what follows waits for a key frame.
    """

    def __init__(self) -> None:
        self._items: deque[Arrival] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None
        self.dropped = 0

    def put(self, item: Arrival) -> None:
        """Append `item`, waiting for room or making some."""
        with self._changed:
            if item.session.live:
                self._make_room(item.arrived_s)
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

    def end(self, error: BaseException | None = None, *, discard: bool = False) -> None:
        """No more items; what waits is still given out unless `discard`. Then `get` raises `error`."""
        with self._changed:
            self._closed = True
            self._error = self._error or error
            if discard:
                self._items.clear()
            self._changed.notify_all()

    def _make_room(self, now_s: float) -> None:
        late = self._items and now_s - self._items[0].arrived_s > MAX_BACKLOG_S
        if late or len(self._items) >= MAX_QUEUED:
            self.dropped += len(self._items)
            self._items.clear()
