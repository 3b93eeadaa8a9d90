"""The last message of a device that goes on purpose: what its will would say."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.transport import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.transport import Presence, Report, Transport

_FAREWELL_S = 1.0


def say_farewell(transport: Transport, presence: Presence, settle: Callable[[Report], None]) -> None:
    """Tell over `transport` that this device goes, where it is connected; `settle` what is still answered meanwhile.

    Takes a second at most.
    """
    farewell = Message("farewell", presence.topic, presence.will, retain=True)
    end_s = time.monotonic() + _FAREWELL_S
    sent = told = False
    while not told and transport.link.connected and (left_s := end_s - time.monotonic()) > 0:
        if not sent and transport.room:
            transport.send(farewell)
            sent = True
        for report in transport.poll(left_s):
            if report.key == farewell.key:
                told, report = True, replace(report, key=farewell.topic)
            settle(report)
