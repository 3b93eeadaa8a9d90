"""Clips as sources: their first frames, or a camera that plays one again and again at a rate of its own."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.capture import SourceStats, make_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent.capture import Pace, StreamOptions
    from agent.messages import Frame

_LATE_S = 1.0
"""A camera that is further behind than this goes on from now: it could never make up for it."""


class FirstFrames:
    """The first `count` frames of a clip; `took_s` is how long each took to read and decode (and to wait for).

    `begun` is called when frame `settle`, or the next one that comes, is about to be handed out.
    """

    def __init__(
        self,
        clip: Path,
        count: int,
        *,
        pace: Pace,
        options: StreamOptions | None = None,
        settle: int = 0,
        begun: Callable[[], None] | None = None,
    ) -> None:
        self._source = make_source(f"file:{clip}", camera="bench", pace=pace, options=options)
        self._count = count
        self._settle, self._begun = settle, begun
        self.stats = self._source.stats
        self._seen = 0
        self.took_s: list[float] = []

    released = True

    @property
    def live(self) -> bool:
        """It is a clip."""
        return False

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second of the clip."""
        return self._source.frame_rate_hz

    @property
    def frame_count(self) -> int:
        """Number of frames: as the container tells, else those seen so far."""
        return min(self._count, self._source.frame_count or self._seen)

    def open(self) -> None:
        """Open the clip. Raises AgentError."""
        self._source.open()

    def frames(self) -> Iterator[Frame]:
        """Yield the frames. Raises AgentError."""
        frames = self._source.frames()
        while True:
            begin_s = time.perf_counter()
            frame = next(frames, None)
            if frame is None or frame.seq >= self._count:
                return
            self.took_s.append(time.perf_counter() - begin_s)
            self._seen = frame.seq + 1
            if self._begun is not None and frame.seq >= self._settle:
                self._begun()
                self._begun = None
            yield frame

    def close(self) -> None:
        """End `frames()`."""
        self._source.close()


class LoopedCamera:
    """A camera of `hz` frames a second that shows `clip` again and again until it is closed."""

    def __init__(self, clip: Path, hz: float) -> None:
        self._clip, self._hz = clip, hz
        self._stop = threading.Event()
        self.stats = SourceStats()

    released = True

    @property
    def live(self) -> bool:
        """It has no end."""
        return True

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second."""
        return self._hz

    @property
    def frame_count(self) -> int:
        """Not known: it has no end."""
        return 0

    def open(self) -> None:
        """Do nothing: each round opens the clip."""

    def frames(self) -> Iterator[Frame]:
        """Yield frames when they are due, or at once when they are late. Raises AgentError."""
        due_s = time.monotonic()
        while not self._stop.is_set():
            source = make_source(f"file:{self._clip}", camera="bench", pace="fastest")
            source.open()
            for frame in source.frames():
                now_s = time.monotonic()
                due_s = max(due_s, now_s - _LATE_S)
                if self._stop.wait(max(0.0, due_s - now_s)):
                    source.close()
                    return
                yield replace(frame, seq=self.stats.frames, time_s=due_s, captured_s=due_s)
                self.stats.frames += 1
                due_s += 1 / self._hz

    def close(self) -> None:
        """End `frames()` soon; from any thread."""
        self._stop.set()
