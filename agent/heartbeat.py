"""Heartbeats: what a stage of the agent does now, noted by itself and read by who judges."""

from __future__ import annotations

from dataclasses import dataclass, replace

CALL_S = 10.0
"""How long a call may take that must end by itself. A hang is to be ended within 45 s: this, 30 s of the
service's watchdog, 5 s to abort."""
DISK_S = 60.0
"""The same for a call that may touch the disk: an SD card that tidies up answers after half a minute."""
ROUND_S, PAUSE_S = 1.0, 3.0
"""How often the beats are looked at, and what is no delay any more: the process stood still meanwhile."""
_KEPT = 64
"""Pauses kept; a call that has lasted through more of them has lasted long enough."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """`stage` is in `call` since `since_s`, for `deadline_s` at most; without a call it waits, for ever if need be."""

    stage: str
    call: str = ""
    since_s: float = 0.0
    deadline_s: float = CALL_S


class Beat:
    """Where a stage notes what it does: one thread writes, any may read. Times are CLOCK_MONOTONIC."""

    __slots__ = ("_deadline_s", "_now")

    def __init__(self, deadline_s: float = CALL_S) -> None:
        self._deadline_s = deadline_s
        self._now: tuple[str, float] | None = None

    def begin(self, call: str, now_s: float) -> None:
        """Note a call that must end by itself."""
        self._now = call, now_s

    def wait(self) -> None:
        """Note that whatever is waited for may take as long as it likes: a frame, a camera, a broker."""
        self._now = None

    def read(self, stage: str) -> Heartbeat:
        """Return what is noted, as that of `stage`."""
        call, since_s = self._now or ("", 0.0)
        return Heartbeat(stage, call, since_s, self._deadline_s)


class Pauses:
    """When the whole process stood still: stopped by a signal, frozen, its machine paused.

    Nothing can go on then, and no call may be blamed for it. One thread notes, any may ask.
    """

    def __init__(self) -> None:
        self._round_s: float | None = None
        self._pauses: tuple[tuple[float, float], ...] = ()

    def round(self, now_s: float) -> None:
        """Note a look around; they come every ROUND_S. Of a longer gap that much is counted, the rest is a pause."""
        before_s, self._round_s = self._round_s, now_s
        if before_s is not None and now_s - before_s > PAUSE_S:
            self._pauses = (*self._pauses[1 - _KEPT :], (before_s + ROUND_S, now_s))

    def without(self, beat: Heartbeat) -> Heartbeat:
        """Return `beat` as if its call had begun later, by the time that was paused since."""
        paused_s = sum(
            end_s - max(begin_s, beat.since_s) for begin_s, end_s in self._pauses if end_s > beat.since_s
        )
        return replace(beat, since_s=beat.since_s + paused_s) if paused_s else beat
