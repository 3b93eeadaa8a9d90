"""The clock: set by a time server, or not."""

from __future__ import annotations

from datetime import datetime, timezone

from agent.check.finding import Finding, ok, warning
from agent.wire import clock_synced

WHAT = "clock"
LIMIT_S = 5.0


def check() -> list[Finding]:
    """Return the row of this device's clock."""
    return [judge(datetime.now(timezone.utc), synced=clock_synced())]


def judge(now: datetime, *, synced: bool) -> Finding:
    """Return the row of a clock that shows `now`."""
    shown = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    if synced:
        return ok(WHAT, f"{shown}, synchronised")
    return warning(
        WHAT,
        f"{shown}, not synchronised by systemd-timesyncd: events say clock_synced false",
        fix="timedatectl set-ntp true, and let the device reach a time server",
    )
