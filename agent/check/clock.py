"""The clock: set by a time server, or not; and whether this Python's timeouts go by it."""

from __future__ import annotations

import sysconfig
from datetime import datetime, timezone

from agent.check.finding import Finding, ok, warning
from agent.clock import look

WHAT = "clock"
LIMIT_S = 5.0
_WAITS_BY_IT = warning(
    "Python",
    "built without sem_clockwait (glibc before 2.30): when the clock is set back, waits get longer by as much",
    fix="use the distribution's own python3",
)


def check() -> list[Finding]:
    """Return the row of this device's clock, and one of a Python whose timeouts follow it."""
    rows = [judge(datetime.now(timezone.utc), synced=look())]
    return rows if sysconfig.get_config_var("HAVE_SEM_CLOCKWAIT") else [*rows, _WAITS_BY_IT]


def judge(now: datetime, *, synced: bool) -> Finding:
    """Return the row of a clock that shows `now`."""
    shown = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    if synced:
        return ok(WHAT, f"{shown}, synchronised")
    return warning(
        WHAT,
        f"{shown}, no time server has set it: events say clock_synced false",
        fix="timedatectl set-ntp true (or chrony), and let the device reach a time server",
    )
