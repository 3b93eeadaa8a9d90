"""When a frame was: its PTS, its time on the logic clock, its capture time; and the pace of a clip."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.capture.clock import ClipClock, PtsClock, Steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from av.video.frame import VideoFrame

    from agent.capture import Pace, SourceStats
    from agent.capture.opening import Session


PACE_FROM_S = 0.2
"""Packets that are not decoded are read in bursts of so much: to wake up for each costs more than to read it."""
PACE_STEP_S = 1.0
"""A step ahead in a clip may be longer than that: it is a jump."""


class Moment(NamedTuple):
    """The times of one frame, as in `messages.Frame`."""

    pts_s: float
    time_s: float
    captured_s: float


class Timeline:
    """Places frames in time: a live one by its PTS and arrival, one of a clip by its PTS and the pace.

    `wait` pauses for so many seconds and may return early; it is `threading.Event.wait` of the one who
    closes.
    """

    def __init__(
        self,
        *,
        pace: Pace,
        stats: SourceStats,
        now: Callable[[], float],
        wait: Callable[[float], object],
    ) -> None:
        self._pace, self._stats, self._now, self._wait = pace, stats, now, wait
        self._steps = Steps()
        self._pts_clock, self._clip_clock = PtsClock(), ClipClock()
        self._clip_to_now_s: float | None = None

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second as measured so far, 0.0 while unknown."""
        return 1 / self._steps.usual_s if self._steps.usual_s else 0.0

    def begin(self, frame_rate_hz: float) -> None:
        """Start, or go over to another connection with PTS of its own; the rate may be 0.0 for unknown."""
        self._steps.begin(1 / frame_rate_hz if frame_rate_hz else 0.0)
        self._pts_clock.restart()

    def place(self, picture: VideoFrame, session: Session, *, arrived_s: float) -> Moment:
        """Return the times of the next frame; on a clip at realtime pace, wait for its turn.

        A live source without timestamps has the arrival for all of them.
        """
        pts_s = self._pts_s(picture, session, arrived_s)
        mapped_s = self._map(pts_s, arrived_s, live=session.live)
        if session.live:
            return Moment(pts_s, mapped_s, mapped_s)
        clip_s = mapped_s
        if self._pace == "fastest":
            return Moment(pts_s, clip_s, arrived_s)
        due_s = self._wait_until_due(clip_s)
        return Moment(pts_s, due_s, due_s)

    def skip(self, ticks: int, session: Session, *, arrived_s: float) -> None:
        """Note a frame that is not decoded: it is no gap. Not for one before the last that was placed."""
        pts_s = arrived_s if session.live and not session.timed else session.seconds(ticks)
        if self._steps.last_pts_s is None or pts_s > self._steps.last_pts_s:
            self._map(pts_s, arrived_s, live=session.live)

    def keep_pace(self, ticks: int, session: Session) -> None:
        """Wait until a packet of a clip is due that may never be decoded, at realtime pace, PACE_STEP_S at most."""
        if session.live or self._pace == "fastest" or self._clip_to_now_s is None:
            return
        due_s = session.seconds(ticks) + self._clip_clock.shift_s + self._clip_to_now_s
        early_s = due_s - self._now()
        if early_s > PACE_FROM_S:
            self._wait(min(early_s, PACE_STEP_S))

    def _map(self, pts_s: float, arrived_s: float, *, live: bool) -> float:
        """Return the monotonic time of the next frame of a live source, the continuous time of one of a clip."""
        step_s = self._steps.take(pts_s)
        steps, stats = self._steps, self._stats
        stats.gaps, stats.pts_backwards, stats.pts_duplicate = steps.gaps, steps.backwards, steps.duplicates
        if live:
            mapped_s = self._pts_clock.map(pts_s, arrived_s, usual_s=steps.usual_s)
            stats.clock_jumps = self._pts_clock.jumps
            return mapped_s
        return self._clip_clock.map(pts_s, step_s=step_s, usual_s=steps.usual_s)

    def _pts_s(self, picture: VideoFrame, session: Session, arrived_s: float) -> float:
        if session.live and not session.timed:
            return arrived_s
        ticks = picture.pts if picture.pts is not None else picture.dts
        if ticks is None:
            self._stats.pts_missing += 1
            return self._steps.next_pts_s()
        return session.seconds(ticks)  # a frame of a flush has none of its own

    def _wait_until_due(self, clip_s: float) -> float:
        if self._clip_to_now_s is None:
            self._clip_to_now_s = self._now() - clip_s
        due_s = clip_s + self._clip_to_now_s
        early_s = due_s - self._now()
        if early_s > 0:
            self._wait(early_s)
        return due_s
