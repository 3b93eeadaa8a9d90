"""PTS to time: the monotonic clock of a live source, the continuous time of a clip. Pure."""

from __future__ import annotations

from collections import deque

BACKWARDS_JUMP_S = 1.0
"""A step back of more than this in a clip is a new time line (restarted encoder, 33-bit wrap), less disorder."""
LIVE_BACKWARDS_S, LIVE_BACKWARDS_STEPS = 0.2, 3.0
"""A step back of more than this, or of so many usual steps if that is less, is a new time line when live."""
FORWARD_JUMP_S = 10.0
"""A step ahead of more than this, and of FORWARD_JUMP_STEPS usual steps, is a new time line in a clip."""
FORWARD_JUMP_STEPS = 10.0
GAP_STEPS = 1.5
"""A step of more than this many usual steps means that frames are missing."""
MEDIAN_OF, MEDIAN_FROM = 15, 3
JUMP_S = 2.0
"""A live PTS that lies so far ahead of the clock of its camera, or behind the one before it, is a jump."""
SETTLED_S = 3.0
"""For so long after a connection servers still settle their PTS: no jumps are counted."""


class Steps:
    """What the PTS of successive frames do. The usual step is the median of the last ones."""

    def __init__(self) -> None:
        self.gaps = self.backwards = self.duplicates = 0
        self._declared_s = 0.0
        self.last_pts_s: float | None = None
        self._recent_s: deque[float] = deque(maxlen=MEDIAN_OF)

    @property
    def usual_s(self) -> float:
        """The usual step from frame to frame: measured, else declared, else 0.0."""
        if len(self._recent_s) < MEDIAN_FROM:
            return self._declared_s
        return sorted(self._recent_s)[len(self._recent_s) // 2]

    def begin(self, declared_s: float) -> None:
        """Start, or begin anew with another connection; `declared_s` is what the container says or 0.0."""
        self._declared_s = declared_s
        self.last_pts_s = None
        self._recent_s.clear()

    def take(self, pts_s: float) -> float:
        """Count one more PTS; return its step from the one before, 0.0 for the first."""
        last_s, self.last_pts_s = self.last_pts_s, pts_s
        if last_s is None:
            return 0.0
        step_s = pts_s - last_s
        if step_s > 0:
            self._forward(step_s)
        elif step_s == 0:
            self.duplicates += 1
        else:
            self.backwards += 1
        return step_s

    def next_pts_s(self) -> float:
        """Return the PTS that a frame without one should have."""
        return 0.0 if self.last_pts_s is None else self.last_pts_s + self.usual_s

    def _forward(self, step_s: float) -> None:
        if len(self._recent_s) >= MEDIAN_FROM and step_s > GAP_STEPS * self.usual_s:
            self.gaps += 1
        self._recent_s.append(step_s)


class PtsClock:
    """Maps the PTS of a live stream to the monotonic clock.

    A frame arrives at capture + transit, and transit = fixed + jitter, jitter >= 0. So the least `arrival -
    PTS` of a sliding window is the offset of the two clocks (plus the fixed transit, which no receiver can
    know): a minimum filter, as in NTP's clock filter (RFC 5905, section 10) and RFC 3550's interarrival view
    of RTP. The window follows the drift of the camera's clock: 100 ppm over 30 s are 3 ms.

    A step back in the PTS restarts the filter: the least offset would belong to what came before the step,
    or to a single PTS too far ahead, and make every frame look older for the whole window.

    Mapped times are never later than the arrival and never decrease. `jumps` counts the PTS that no clock of a
    camera gives: a late frame is none, for its PTS lies behind, and not ahead.
    """

    def __init__(self, *, window_s: float = 30.0) -> None:
        self._window_s = window_s
        self._offsets: deque[tuple[float, float]] = deque()  # (arrival, offset), offsets ascending
        self._last_pts_s: float | None = None
        self._last_s = float("-inf")
        self._began_s: float | None = None
        self.jumps = 0

    def map(self, pts_s: float, arrival_s: float, *, usual_s: float = 0.0) -> float:
        """Return the monotonic time of a frame with that PTS; `arrival_s` must not decrease.

        `usual_s` is the usual step of the PTS, 0.0 while unknown.
        """
        self.jumps += self._is_jump(pts_s, arrival_s)
        back_s = min(LIVE_BACKWARDS_S, LIVE_BACKWARDS_STEPS * usual_s) if usual_s else LIVE_BACKWARDS_S
        if self._last_pts_s is not None and pts_s < self._last_pts_s - back_s:
            self.restart()
        self._last_pts_s = pts_s
        self._learn(arrival_s - pts_s, arrival_s)
        self._last_s = max(self._last_s, min(pts_s + self._offsets[0][1], arrival_s))
        return self._last_s

    def restart(self) -> None:
        """Forget the offset: another connection, or another time line. Mapped times still never decrease."""
        self._offsets.clear()
        self._last_pts_s = self._began_s = None

    def _is_jump(self, pts_s: float, arrival_s: float) -> bool:
        if self._last_pts_s is None or self._began_s is None:
            self._began_s = arrival_s
            return False
        settled = arrival_s - self._began_s >= SETTLED_S
        back, ahead = pts_s < self._last_pts_s - JUMP_S, arrival_s - pts_s < self._offsets[0][1] - JUMP_S
        return settled and (back or ahead)

    def _learn(self, offset_s: float, arrival_s: float) -> None:
        while self._offsets and self._offsets[-1][1] >= offset_s:
            self._offsets.pop()
        self._offsets.append((arrival_s, offset_s))
        while self._offsets[0][0] < arrival_s - self._window_s:
            self._offsets.popleft()


class ClipClock:
    """Makes the PTS of a clip one continuous, non-decreasing time line, PTS itself as long as they behave.

    Small disorder is held level; a jump (back, or far ahead) goes on one usual step after the frame before.
    """

    def __init__(self) -> None:
        self.shift_s = 0.0
        self._last_s: float | None = None

    def map(self, pts_s: float, *, step_s: float, usual_s: float) -> float:
        """Return the time of a frame; `step_s` is its step from the PTS before, `usual_s` the usual one."""
        if self._last_s is None:
            self._last_s = pts_s
            return pts_s
        far_s = max(FORWARD_JUMP_S, FORWARD_JUMP_STEPS * usual_s)
        if step_s < -BACKWARDS_JUMP_S or step_s > far_s:
            self.shift_s = self._last_s + usual_s - pts_s
        self._last_s = max(self._last_s, pts_s + self.shift_s)
        return self._last_s
