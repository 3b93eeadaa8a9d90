"""What state a camera is in, from what its source says and what its pictures show. Pure: time is an argument."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent.picture import SOUND, Flaw

if TYPE_CHECKING:
    from agent.capture.link import LinkState

CameraState = Literal[
    "starting",
    "ok",
    "down",
    "stalled",
    "frozen",
    "black",
    "low_entropy",
    "auth_failed",
    "clock_jump",
    "corrupt",
]
TRUSTED: tuple[CameraState, ...] = ("starting", "ok", "clock_jump")
"""In these states what the pictures show is believed."""

STARTING_S = 5.0
"""A camera that takes longer for its first answer is down, until it gives one."""
SILENT_S, SILENT_GAPS = 4.0, 2.0
"""Without a packet for so long, and for so many of its usual gaps, a camera has stalled."""
PICTURE_S, KEY_S = 6.0, 30.0
"""So long packets may come without a picture, and before the first key frame; in idle twice the distance of those."""
WINDOW_S = 5.0
"""The rate of packets and of damage is taken over this."""
SLOW, SLOW_FROM_HZ = 0.05, 2.0
"""Less than this share of the usual rate is a stall, where that is at least so much: by night some go from 25/s to 1.5.
"""
USUAL_S = 60.0
"""How fast the usual rate follows."""
DAMAGED, DAMAGED_SHARE = 3, 0.015
"""So many damaged packets and pictures within the window are too many, and such a share of all there."""
CALM_S = 2.0
"""Without damage for so long it is over: before a camera counts as lost."""
JUMP_TOLD_S = 10.0
ENTER_S: dict[CameraState, float] = {"down": 2.0, "black": 2.0, "low_entropy": 2.0}
"""How long a fault must be there before it is the state; what is not listed has waited already."""
LEAVE_S, DWELL_S = 2.0, 2.0
"""How long all must be well before a fault is over, and how long a fault lasts before it becomes another one."""
LEAVE_AT_ONCE: tuple[CameraState, ...] = ("starting", "frozen", "clock_jump", "corrupt")
_LONG_GAP_S, _GAPS_FROM, _GAP_MEMORY_S = 2.0, 3, 120.0


@dataclass(frozen=True, slots=True)
class CameraHealth:
    """The state of a camera, since when on the logic clock, and what is known of the cause, without numbers."""

    state: CameraState
    since_s: float
    detail: str = ""

    @property
    def trusted(self) -> bool:
        """Its pictures are believed."""
        return self.state in TRUSTED


@dataclass(frozen=True, slots=True)
class Signs:
    """What is known of a camera at one moment; the counts only ever grow, but for a new source.

    `damaged` counts packets and pictures; `rare_s` is how far apart pictures may be in idle; while `awaiting_key`
    there can be none before the next key frame. A source that is not `live` (a clip) can only start, be ok, and
    be down.
    """

    link: LinkState
    live: bool = True
    packets: int = 0
    frames: int = 0
    damaged: int = 0
    clock_jumps: int = 0
    rare_s: float = 0.0
    awaiting_key: bool = False
    flaw: Flaw = SOUND


class HealthMachine:
    """Turns signs, given about once a second, into states. Time that goes back stands still."""

    def __init__(self, now_s: float) -> None:
        self.health = CameraHealth("starting", now_s)
        self._now_s = self._link_s = now_s
        self._signs: Signs | None = None
        self._flow, self._pictures = _Flow(now_s), _Flow(now_s)
        self._damage: deque[tuple[float, int]] = deque()
        self._damaged_s = float("-inf")
        self._jumped_s = float("-inf")
        self._awaited = 0
        self._good_s: float | None = None
        self._bad_s: float | None = None

    def step(self, signs: Signs, now_s: float) -> CameraHealth:
        """Return the state after these signs."""
        now_s = self._now_s = max(now_s, self._now_s)
        self._take_in(signs, now_s)
        seen = self._judge(signs, now_s)
        if seen is not None:
            state, detail = seen
            if state == "ok":
                self._be_well(now_s, live=signs.live)
            else:
                self._suffer(state, detail, now_s)
        return self.health

    def _take_in(self, signs: Signs, now_s: float) -> None:
        last, self._signs = self._signs, signs
        if last is None or last.link.kind != signs.link.kind:
            self._link_s, self._awaited = now_s, signs.frames if last is not None else 0
            self._flow.restart(now_s)
            self._pictures.restart(now_s)
        self._flow.take(signs.packets + signs.frames, now_s)
        self._pictures.take(signs.frames, now_s)
        if last is None:
            return
        if signs.damaged > last.damaged:
            self._damage.append((now_s, signs.damaged - last.damaged))
            self._damaged_s = now_s
        while self._damage and self._damage[0][0] <= now_s - WINDOW_S:
            self._damage.popleft()
        if signs.clock_jumps > last.clock_jumps:
            self._jumped_s = now_s

    def _judge(self, signs: Signs, now_s: float) -> tuple[CameraState, str] | None:
        """Return what these signs alone say; None when it is too early to say."""
        kind, detail = signs.link.kind, signs.link.detail
        if kind == "refused":
            return "auth_failed", detail
        if kind == "lost":
            return "down", detail
        if kind == "silent":
            return "stalled", detail
        if kind == "connecting":
            return ("down", "no answer yet") if now_s - self._link_s >= STARTING_S else None
        if not signs.live:
            return ("ok", "") if signs.frames else None
        return self._judge_stream(signs, now_s)

    def _judge_stream(self, signs: Signs, now_s: float) -> tuple[CameraState, str] | None:
        """Return what a source that is up gives."""
        limit_s = self._flow.limit_s
        if self._flow.quiet_s(now_s) >= limit_s:
            return "stalled", "connected, and nothing comes"
        if self._is_corrupt(now_s):
            return "corrupt", "damaged packets"
        picture_s = KEY_S if signs.awaiting_key else PICTURE_S
        if self._pictures.quiet_s(now_s) >= max(picture_s, limit_s, 2 * signs.rare_s):
            return "stalled", "packets come, and no picture"
        if self._flow.slow(now_s):
            return "stalled", "far fewer packets than usual"
        if signs.frames == self._awaited:
            return None
        if signs.flaw.kind:
            return signs.flaw.kind, signs.flaw.detail
        if now_s - self._jumped_s < JUMP_TOLD_S:
            return "clock_jump", "its timestamps jumped"
        return "ok", ""

    def _is_corrupt(self, now_s: float) -> bool:
        """Tell whether too much is damaged; once it is, until nothing was for a while."""
        if now_s - self._damaged_s >= CALM_S:
            return False
        few = max(DAMAGED, DAMAGED_SHARE * self._flow.grown)
        return self.health.state == "corrupt" or sum(count for _, count in self._damage) >= few

    def _be_well(self, now_s: float, *, live: bool) -> None:
        self._bad_s = None
        if self._good_s is None:
            self._good_s = now_s
        at_once = self.health.state in LEAVE_AT_ONCE or not live
        if self.health.state != "ok" and (at_once or now_s - self._good_s >= LEAVE_S):
            self.health = CameraHealth("ok", now_s)

    def _suffer(self, state: CameraState, detail: str, now_s: float) -> None:
        self._good_s = None
        if self._bad_s is None:
            self._bad_s = now_s
        now = self.health
        if state == now.state:
            self.health = CameraHealth(state, now.since_s, detail)
            return
        settled = now.state in ("starting", "ok") or now_s - now.since_s >= DWELL_S
        if settled and now_s - self._bad_s >= ENTER_S.get(state, 0.0):
            self.health = CameraHealth(state, now_s, detail)


class _Flow:
    """Of a count that grows: how long it has not, how fast it does, and what is usual."""

    def __init__(self, now_s: float) -> None:
        self._gaps: deque[tuple[float, float]] = deque(maxlen=_GAPS_FROM + 2)
        self.restart(now_s)

    def restart(self, now_s: float) -> None:
        """Begin anew with another connection; long gaps are those of the camera and stay known."""
        self._grown_s, self._count = now_s, -1
        self._recent: deque[tuple[float, int]] = deque()
        self._usual_hz = 0.0

    def take(self, count: int, now_s: float) -> None:
        """Note the count at `now_s`."""
        if count != self._count and self._count >= 0:
            if now_s - self._grown_s >= _LONG_GAP_S:
                self._gaps.append((now_s, now_s - self._grown_s))
            self._grown_s = now_s
        self._count = count
        while self._gaps and now_s - self._gaps[0][0] > _GAP_MEMORY_S:
            self._gaps.popleft()
        self._recent.append((now_s, count))
        while len(self._recent) > 2 and now_s - self._recent[1][0] >= WINDOW_S:
            self._recent.popleft()
        self._learn(now_s)

    def quiet_s(self, now_s: float) -> float:
        """Return for how long it has not grown."""
        return now_s - self._grown_s

    @property
    def grown(self) -> int:
        """How much it has grown within the window."""
        return max(0, self._recent[-1][1] - self._recent[0][1])

    @property
    def limit_s(self) -> float:
        """How long it may be quiet, so that a camera with a picture every 5 s is no fault."""
        gaps_s = sorted(gap_s for _, gap_s in self._gaps)
        usual_s = gaps_s[len(gaps_s) // 2] if len(gaps_s) >= _GAPS_FROM else 0.0
        return max(SILENT_S, SILENT_GAPS * usual_s)

    def slow(self, now_s: float) -> bool:
        """Tell whether it grows far more slowly than usual."""
        rate_hz = self._rate_hz(now_s)
        return rate_hz is not None and self._usual_hz >= SLOW_FROM_HZ and rate_hz < SLOW * self._usual_hz

    def _rate_hz(self, now_s: float) -> float | None:
        (since_s, before), (_, count) = self._recent[0], self._recent[-1]
        if now_s - since_s < WINDOW_S:
            return None
        return max(0, count - before) / (now_s - since_s)

    def _learn(self, now_s: float) -> None:
        rate_hz = self._rate_hz(now_s)
        if rate_hz is None:
            return
        if not self._usual_hz:
            self._usual_hz = rate_hz
        step_s = now_s - self._recent[-2][0]
        self._usual_hz += (rate_hz - self._usual_hz) * min(1.0, step_s / USUAL_S)
