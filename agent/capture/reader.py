"""The thread that reads a network source: connects, reads, and connects again when a live one is lost.

It is a thread of its own because a blocked connect or read can't be interrupted from outside: `close()` ends
the consumer's wait at once, and the thread follows when its own timeout is over. A name server that does not
answer holds it longest (getaddrinfo knows no timeout but the resolver's), one thread a source at most.
"""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import av

from agent.capture import faults
from agent.capture.link import Link
from agent.capture.opening import open_session
from agent.capture.packets import Arrival, PacketQueue, read_packets
from agent.errors import ServiceAway
from agent.urls import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.backoff import Backoff
    from agent.capture import SourceStats, StreamOptions
    from agent.capture.opening import Session

POLL_S = 0.25
JOIN_S = 0.5


class Stalled(Exception):
    """The connection stands and nothing useful comes."""


class Reader:
    """Reads `url` in a daemon thread: `start()` once, iterate `arrivals()`, `close()` from any thread."""

    def __init__(
        self,
        url: str,
        *,
        camera: str,
        options: StreamOptions,
        backoff: Backoff,
        stats: SourceStats,
        now: Callable[[], float],
    ) -> None:
        self._url, self._camera, self._options = url, camera, options
        self._stats, self._now = stats, now
        self._queue = PacketQueue()
        self._stop = threading.Event()
        self._link = Link(
            camera=camera,
            stats=stats,
            backoff=backoff,
            lasting_s=options.backoff_max_s,
            stop=self._stop,
            now=now,
        )
        self._given_up: Session | None = None
        self._last_arrival_s = 0.0
        self._first: SimpleQueue[Session | BaseException] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"read {camera}", daemon=True)

    @property
    def dropped(self) -> int:
        """Packets thrown away so far because the consumer was too far behind."""
        return self._queue.dropped

    @property
    def waiting(self) -> bool:
        """A packet is there."""
        return len(self._queue) > 0

    @property
    def alive(self) -> bool:
        """The thread runs."""
        return self._thread.is_alive()

    def start(self) -> Session:
        """Start the thread; return the first session.

        Raises AgentError within `open_timeout_s`, ServiceAway at once on `close()`.
        """
        self._thread.start()
        try:
            first = self._first.get(timeout=self._options.open_timeout_s)
        except Empty:
            self.close()
            raise faults.silent(self._url, self._options.open_timeout_s) from None
        if isinstance(first, BaseException):
            raise first
        return first

    def arrivals(self) -> Iterator[Arrival | None]:
        """Yield packets as they come, None whenever nothing came for a moment, until the end or `close()`."""
        try:
            while True:
                yield self._queue.get(POLL_S)
        except EOFError:
            return

    def give_up(self, session: Session) -> None:
        """Packets come, but nothing can be made of them: connect again."""
        self._given_up = session

    def settle(self) -> None:
        """Note that the consumer will be behind for a while: no reason to drop packets."""
        self._queue.settle(self._now())

    def close(self) -> None:
        """End `start()` and `arrivals()` at once, the thread soon; from any thread, any number of times."""
        self._stop.set()
        self._first.put(faults.closed(self._url))
        self._queue.end(discard=True)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(JOIN_S)

    def _run(self) -> None:
        try:
            session = self._open()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits in start()
            self._first.put(error)
            return
        if self._stop.is_set():  # nobody waits any more
            session.close()
            return
        self._link.up()
        self._first.put(session)
        try:
            self._read_all(session)
        except BaseException as error:  # noqa: BLE001 - raised by arrivals()
            self._queue.end(error)
        else:
            self._queue.end()

    def _read_all(self, session: Session | None) -> None:
        while session is not None:
            reason, silent = "ended by the camera", False
            try:
                self._read(session)
            except (av.FFmpegError, Stalled) as error:
                reason, silent = self._lost(session, error)
            finally:
                session.close()
            if not session.live:
                return
            fault = ServiceAway(reason, seen=redact(self._url))
            session = self._link.regain(self._open, fault, silent=silent)

    def _open(self) -> Session:
        return open_session(self._url, self._options)

    def _read(self, session: Session) -> None:
        self._last_arrival_s = self._now()
        for arrival in read_packets(session, self._now):
            if self._stop.is_set():
                return
            if session.live and self._given_up is session:
                raise Stalled("packets come, but no picture")
            if session.live and self._silent():
                raise Stalled
            if arrival is not None:
                self._last_arrival_s = arrival.arrived_s
                self._queue.put(arrival)

    def _silent(self) -> bool:
        return self._now() - self._last_arrival_s >= self._options.stall_timeout_s

    def _lost(self, session: Session, error: av.FFmpegError | Stalled) -> tuple[str, bool]:
        """Return why a live session ended, and whether by silence; a finite one is an error for the consumer."""
        if isinstance(error, av.FFmpegError) and not session.live:
            raise faults.explain(error, self._url, waited_s=0.0, limit_s=1.0) from None
        if isinstance(error, Stalled) or self._silent():
            self._stats.stalls += 1
            return f"silent for {self._options.stall_timeout_s:g} s" if self._silent() else str(error), True
        return error.strerror or type(error).__name__, False
