"""Watches a camera for a few seconds: what it sends, how fast, and what decoding it costs."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.capture import SourceStats, make_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.capture import FrameSource
    from agent.check.target import CameraTarget
    from agent.messages import Frame

WATCH_S = 3.0
WATCH_MAX_S = 8.0
"""So long for a camera that has not shown its second key frame."""
_GRACE_S = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What a camera showed. `frame` is its last one; None when there was none.

    `declared_hz` is 0.0 when it does not say, `measured_hz` when there were too few frames. `gop_s` is the
    longest distance of two key frames; None while there were not two. `decode_ms` is the time of the
    processor that a frame takes to be read and decoded. `stopped`: the frames ceased while we watched.
    """

    live: bool
    codec: str
    frame: Frame | None
    frames: int
    watched_s: float
    declared_hz: float
    measured_hz: float
    gop_s: float | None
    key_frames_only: bool
    decode_ms: float
    stopped: bool
    stats: SourceStats

    @property
    def rate_hz(self) -> float:
        """Frames a second, as measured, else as declared."""
        return self.measured_hz or self.declared_hz


def limit_s(camera: CameraTarget) -> float:
    """Return how long `observe` may take in all."""
    return camera.stream.open_timeout_s + camera.stream.stall_timeout_s + WATCH_MAX_S + 2 * _GRACE_S


def observe(camera: CameraTarget) -> Observation:
    """Open `camera` and watch it. Raises AgentError when it can't be had, or gives no picture at all."""
    source = make_source(camera.url, camera=camera.name, pace="realtime", options=camera.stream)
    try:
        with _closing_after(source, camera.stream.open_timeout_s + _GRACE_S):
            source.open()
        return _watch(source, camera)
    finally:
        source.close()


def _watch(source: FrameSource, camera: CameraTarget) -> Observation:
    frames = source.frames()
    with _closing_after(source, camera.stream.stall_timeout_s):
        first = next(frames, None)
    first_s = time.monotonic()
    tally = _Tally()
    with _closing_after(source, WATCH_MAX_S) as cut_off:
        before_s = _cpu_s(camera.name)
        if first is not None:
            tally.add(first)
            _fill(tally, frames, first_s)
        busy_s = _cpu_s(camera.name) - before_s
    watched_s = time.monotonic() - first_s
    return Observation(
        live=source.live,
        codec=source.stats.codec,
        frame=tally.last,
        frames=tally.count,
        watched_s=watched_s,
        declared_hz=source.frame_rate_hz,
        measured_hz=tally.rate_hz,
        gop_s=tally.gop_s,
        key_frames_only=tally.key_frames_only,
        decode_ms=busy_s / (tally.count - 1) * 1e3 if tally.count > 1 else 0.0,
        stopped=source.live and cut_off() and tally.span_s < watched_s / 2,
        stats=source.stats,
    )


def _fill(tally: _Tally, frames: Iterator[Frame], first_s: float) -> None:
    """Take frames until enough was seen."""
    for frame in frames:
        tally.add(frame)
        if time.monotonic() - first_s >= WATCH_S and tally.complete:
            return


def _cpu_s(camera: str) -> float:
    """Return the processor time so far of this thread and of the one that reads `camera`.

    Threads that are not Python's, of a GStreamer pipeline say, are not in it.
    """
    total_s = time.thread_time()
    for thread in threading.enumerate():
        if thread.name == f"read {camera}":
            # It may end at any time, and a kernel may be without schedstats.
            with contextlib.suppress(OSError, ValueError, IndexError):
                schedstat = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text(encoding="ascii")
                total_s += int(schedstat.split()[0]) / 1e9
    return total_s


class _Tally:
    """Sums up frames as they come."""

    def __init__(self) -> None:
        self.last: Frame | None = None
        self.count = 0
        self._first_s = self._last_s = 0.0
        self._keys: list[float] = []

    def add(self, frame: Frame) -> None:
        self.count += 1
        self.last = frame
        self._first_s, self._last_s = (self._first_s if self.count > 1 else frame.pts_s), frame.pts_s
        if frame.picture.key_frame:
            self._keys.append(frame.pts_s)

    @property
    def complete(self) -> bool:
        """There is nothing more to learn about key frames."""
        return len(self._keys) != 1

    @property
    def span_s(self) -> float:
        return self._last_s - self._first_s

    @property
    def rate_hz(self) -> float:
        return (self.count - 1) / self.span_s if self.span_s > 0 else 0.0

    @property
    def gop_s(self) -> float | None:
        steps = [b - a for a, b in zip(self._keys, self._keys[1:], strict=False)]
        return max(steps, default=None)

    @property
    def key_frames_only(self) -> bool:
        return len(self._keys) == self.count > 1


@contextlib.contextmanager
def _closing_after(source: FrameSource, limit_s: float) -> Iterator[Callable[[], bool]]:
    """Close `source` after `limit_s`, unless the block ends before; yield what tells whether it came to that."""
    closed = threading.Event()

    def close() -> None:
        closed.set()
        source.close()

    timer = threading.Timer(limit_s, close)
    timer.daemon = True
    timer.start()
    try:
        yield closed.is_set
    finally:
        timer.cancel()
