"""Which packets of a stream are decoded: all while something happens, in idle the key frames alone. Pure."""

from __future__ import annotations

from collections import deque
from math import log2
from typing import TYPE_CHECKING, Literal

from agent.luma import changed_share

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    Blocks = NDArray[np.float32]

Verdict = Literal["decode", "look", "hold", "wake"]
"""Decode it; decode this key frame alone and tell `looked`; keep it; decode all that was kept, then it."""
Wake = Literal["motion", "sizes", "busy", "overdue"]

QUIET_S = 2.0
"""So long nothing may change before idle begins."""
MOVED_SHARE = 0.002
"""The share of the picture that must change, as in `Sampling.threshold`."""
LOOK_S = 0.5
"""Key frames are looked at no more often than this in idle: where every packet is one it makes the saving."""
WATCH_S = 0.4
"""How often pictures are compared while awake."""
MAX_GOP_S = 30.0
MAX_GOP_PACKETS = 750
MAX_GOP_BYTES = 12 << 20
"""Key frames farther apart than any of these can't be relied on: all is decoded."""
OVERDUE = 1.5
"""A key frame that takes so many times the longest distance seen, and OVERDUE_S more, is not waited for."""
OVERDUE_S = 0.5
PATIENCE_S = 90.0
"""Without a rhythm of key frames for so long there is none, which is worth a word."""
BACK_S = 1.0
"""A step back in time of more than this is another time line."""
_INTERVALS, _INTERVALS_FROM = 8, 2


class Rhythm:
    """How far key frames are apart, from the last few distances.

    `longest_s` is the longest distance of late, 0.0 while none is known. `all_key`: every packet is a key
    frame, as in MJPEG. `reliable`: key frames have come at distances that can be waited for, and what lies
    between can be kept.
    """

    def __init__(self) -> None:
        self._gops: deque[tuple[float, int, int]] = deque(maxlen=_INTERVALS)  # seconds, packets, bytes
        self._packets = self._bytes = 0
        self.since_s: float | None = None
        self.longest_s, self.all_key, self.reliable = 0.0, False, False

    def packet(self, *, key: bool, size_bytes: int, time_s: float) -> None:
        """Note the next packet."""
        if key:
            if self.since_s is not None:
                self._gops.append((time_s - self.since_s, self._packets, self._bytes))
                self._judge()
            self.since_s, self._packets, self._bytes = time_s, 0, 0
        self._packets += 1
        self._bytes += size_bytes

    def _judge(self) -> None:
        seconds, packets, sizes = (max(column) for column in zip(*self._gops, strict=True))
        enough = len(self._gops) >= _INTERVALS_FROM
        fits = seconds <= MAX_GOP_S and packets <= MAX_GOP_PACKETS and sizes <= MAX_GOP_BYTES
        self.longest_s, self.all_key, self.reliable = seconds, enough and packets == 1, enough and fits


class Sizes:
    """Sees a jump in the sizes of packets: several in a row far above what is usual here.

    Usual is the median of the last packets' logarithms, its spread 1.4826 times the median deviation
    (Rousseeuw 1993), so neither an encoder's level nor a few odd packets matter. A weak signal: false alarms
    raise the threshold (`trust`), true ones lower it again.
    """

    WINDOW, FROM, RECENT, STEP = 128, 24, 3, 8
    """Packets of which the usual is made, from how many on, how many must be larger, how often it is renewed."""
    SPREADS = 4.0
    LEAST = 0.6
    """The least jump, in octaves: half as large again."""

    def __init__(self) -> None:
        self._usual: deque[float] = deque(maxlen=self.WINDOW)
        self._recent: deque[float] = deque(maxlen=self.RECENT)
        self._doubt, self._level, self._since = 1.0, 0.0, self.STEP

    def jumped(self, size_bytes: int) -> bool:
        """Note the next packet; tell whether it and those just before it are a jump."""
        if len(self._recent) == self.RECENT:
            self._usual.append(self._recent[0])
        self._recent.append(log2(size_bytes + 1))
        if len(self._usual) < self.FROM:
            return False
        self._since += 1
        if self._since >= self.STEP:
            self._level, self._since = _median(self._usual), 0
        usual = self._level
        above = _median(self._recent) - usual
        if above <= self.LEAST * self._doubt:
            return False
        spread = 1.4826 * _median([abs(size - usual) for size in self._usual])
        return above > self.SPREADS * spread * self._doubt

    def trust(self, *, right: bool) -> None:
        """Learn whether the last alarm was one."""
        self._doubt = max(1.0, self._doubt / 1.25) if right else min(4.0, self._doubt * 1.25)


class Gate:
    """Idle or awake, packet by packet. `time_s` is the packet's time in the stream, never far back.

    It starts awake. Idle begins at a key frame, when for QUIET_S no picture changed, `busy` denies, and key
    frames have come reliably. `busy` is asked only when idle could begin and in idle. `idle_s` and `wakes`
    count all of the run.
    """

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self.idle_s = 0.0
        self.wakes: dict[Wake, int] = {"motion": 0, "sizes": 0, "busy": 0, "overdue": 0}
        self._doubtful = False
        self.restart()

    def restart(self) -> None:
        """Begin anew, awake: another connection, or packets are missing."""
        self.idle = False
        self._rhythm, self._sizes = Rhythm(), Sizes()
        self._now_s = self._began_s = self._moved_s = self._looked_s = self._watched_s = float("-inf")
        self._reference: Blocks | None = None
        self._blind = False

    def packet(self, *, key: bool, size_bytes: int, time_s: float) -> Verdict:
        """Decide on the next packet."""
        resting, back = self.idle, time_s < self._now_s - BACK_S
        if back:
            self.restart()
        if self._now_s == float("-inf"):
            self._began_s = self._moved_s = self._now_s = time_s
        step_s, self._now_s = max(0.0, time_s - self._now_s), max(self._now_s, time_s)
        self._rhythm.packet(key=key, size_bytes=size_bytes, time_s=self._now_s)
        jumped = (not key or self._rhythm.all_key) and self._sizes.jumped(size_bytes)
        if back and resting:
            return "wake"
        if not self.idle:
            self.idle = key and self._may_rest() and not self._keep_awake()
            return "look" if self.idle else "decode"
        self.idle_s += step_s
        reason = self._reason_to_wake(jumped)
        if reason is not None:
            self._wake(reason)
            return "wake"
        return "look" if key and self._now_s - self._looked_s >= LOOK_S else "hold"

    def looked(self, blocks: Blocks | None) -> bool:
        """Compare the key frame that was looked at with the picture before; True: decode all that was kept."""
        self._looked_s = self._now_s
        moved = self._moves(blocks)
        if moved:
            self._wake("motion")
        return moved

    def wants_picture(self) -> bool:
        """Tell whether, awake, the next picture is to be compared."""
        return self._now_s - self._watched_s >= WATCH_S

    def watched(self, blocks: Blocks | None) -> None:
        """Compare a picture while awake."""
        self._watched_s = self._now_s
        if self._moves(blocks):
            self._moved_s, self._doubtful = self._now_s, self._trust(right=True)

    def cannot_look(self) -> None:
        """Stay awake from now on: key frames give no whole picture alone, or can't be compared."""
        self.idle, self._blind = False, True

    @property
    def miss_window_s(self) -> float:
        """How long something may be in view unseen in idle: the distance of looks; 0.0 where idle can't be."""
        if self._blind or not self._rhythm.reliable:
            return 0.0
        longest_s = self._rhythm.longest_s
        return longest_s if longest_s >= LOOK_S else LOOK_S + longest_s

    @property
    def obstacle(self) -> str | None:
        """Why idle can't begin here, None while it may."""
        if self._blind:
            return "its key frames can't be compared"
        if self._rhythm.reliable or self._now_s - self._began_s < PATIENCE_S:
            return None
        longest_s = self._rhythm.longest_s
        return f"key frames up to {longest_s:.0f} s apart" if longest_s else "no regular key frames"

    @property
    def all_key(self) -> bool:
        """Every packet is a key frame."""
        return self._rhythm.all_key

    def _may_rest(self) -> bool:
        return not self._blind and self._rhythm.reliable and self._now_s - self._moved_s >= QUIET_S

    def _keep_awake(self) -> bool:
        busy = self._busy()
        if self._doubtful:
            self._doubtful = self._trust(right=busy)
        return busy

    def _reason_to_wake(self, jumped: bool) -> Wake | None:
        since_s = self._now_s if self._rhythm.since_s is None else self._rhythm.since_s
        if self._now_s - since_s > OVERDUE * self._rhythm.longest_s + OVERDUE_S:
            return "overdue"
        if jumped:
            return "sizes"
        return "busy" if self._busy() else None

    def _wake(self, reason: Wake) -> None:
        self.idle, self._moved_s = False, self._now_s
        self._doubtful = reason == "sizes"
        self.wakes[reason] += 1

    def _trust(self, *, right: bool) -> bool:
        """Settle whether a jump of sizes was an alarm; nothing is then in doubt."""
        if self._doubtful:
            self._sizes.trust(right=right)
        return False

    def _moves(self, blocks: Blocks | None) -> bool:
        """Compare with the picture of the last change: what is slow adds up."""
        if blocks is None:
            self.cannot_look()
            return False
        moved = self._reference is None or changed_share(blocks, self._reference) >= MOVED_SHARE
        if moved:
            self._reference = blocks
        return moved


def _median(values: deque[float] | list[float]) -> float:
    return sorted(values)[len(values) // 2]
