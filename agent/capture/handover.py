"""From the thread that grabs pictures to the one that takes them: one place, where the newest wins."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

    from agent.capture import SourceStats


@dataclass(frozen=True, slots=True, eq=False)
class Grab:
    """A picture in memory of its own, its time in the source, and on CLOCK_MONOTONIC (None: on arrival)."""

    picture: VideoFrame
    pts_s: float
    captured_s: float | None = None


class HandOver:
    """One picture between the thread that grabs and the one that takes; a live one gives way to a newer."""

    def __init__(self, stats: SourceStats) -> None:
        self._stats = stats
        self._changed = threading.Condition()
        self._waiting: Grab | None = None
        self._ended = False
        self._error: BaseException | None = None

    def put(self, grab: Grab, *, replace: bool) -> None:
        """Leave `grab`, in place of one that waits, or once that is taken."""
        with self._changed:
            if not replace:
                self._changed.wait_for(lambda: self._ended or self._waiting is None)
            elif self._waiting is not None:
                self._stats.late_packets += 1
            if not self._ended:
                self._waiting = grab
                self._changed.notify_all()

    def take(self, timeout_s: float) -> Grab | None:
        """Return what waits, None after `timeout_s`; at the end raise what `end` got, or EOFError."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._waiting is not None, timeout_s)
            grab, self._waiting = self._waiting, None
            if grab is None and self._ended:
                raise self._error or EOFError
            self._changed.notify_all()
            return grab

    def end(self, error: BaseException | None = None, *, discard: bool = False) -> None:
        """Nothing more comes; what waits is still given out unless `discard`."""
        with self._changed:
            self._ended, self._error = True, self._error or error
            if discard:
                self._waiting = None
            self._changed.notify_all()
