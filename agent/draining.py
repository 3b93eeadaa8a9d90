"""The last messages: how long the end waits for them to be delivered."""

from __future__ import annotations

import time
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.outlet import Outlet

_STEP_S = 0.25
_AWAY_S = 1.0
"""A stop by a signal does not wait for a broker that has been away for so long: the outbox keeps all."""
_MOST_S = {"reload": 1.0, "shutdown": 3.0}
"""Longest drains when it is not the end of a clip: what is left goes out after the next start."""


def drain(outlet: Outlet, reason: str, drain_s: float, hurried: Callable[[], bool]) -> bool:
    """Deliver what is left for at most `drain_s`, or until `hurried`; return whether all arrived.

    A stop by a signal takes 3 s at most, and gives up on a broker that is away. A reload takes a second.
    """
    patience_s = _AWAY_S if reason == "shutdown" else inf
    seen_s = time.monotonic()
    deadline_s = seen_s + max(min(drain_s, _MOST_S.get(reason, drain_s)), _STEP_S)
    while (rest_s := deadline_s - time.monotonic()) > 0 and not hurried():
        if outlet.drain(min(_STEP_S, rest_s)):
            return True
        if outlet.publisher.state.connected:
            seen_s = time.monotonic()
        elif time.monotonic() - seen_s >= patience_s:
            return False
    return False
