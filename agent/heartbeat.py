"""Heartbeats: what a stage of the agent does now, noted by itself and read by who judges."""

from __future__ import annotations

from dataclasses import dataclass

CALL_S = 10.0
"""How long a call may take that must end by itself. A hang is to be ended within 45 s: this, 30 s of the
service's watchdog, 5 s to abort."""


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
