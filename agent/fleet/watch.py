"""Watching a fleet: one look at all devices, or a table that goes on until somebody has seen enough."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from typing import TYPE_CHECKING

from rich.live import Live

from agent.fleet.devices import Fleet, summary
from agent.fleet.hearing import Hearing
from agent.fleet.table import page_size, view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from paho.mqtt.client import MQTTMessage
    from rich.console import Console

    from agent.mqtt.options import MqttOptions

_DRAW_S = 0.5
"""At most twice a second ..."""
_DRAW_SHARE = 10
"""... and at most a tenth of the time: to sort 100,000 devices takes a second."""
_AGES_S = 1.0
"""Without news the table is drawn so often, for the ages in it."""
_QUIET_S = 1.0
"""What is retained has come when nothing more has for so long."""
_POLL_S = 0.25
_KEYS = "q quit, n next page, p page before"


@contextlib.contextmanager
def hearing(options: MqttOptions, fleet: Fleet) -> Iterator[Hearing]:
    """Yield a reader that feeds `fleet`."""

    def deliver(message: MQTTMessage) -> None:
        with contextlib.suppress(UnicodeDecodeError):
            fleet.take(message.topic, bytes(message.payload), time.monotonic(), retained=message.retain)

    reader = Hearing(options, fleet.filters, deliver)
    try:
        yield reader
    finally:
        reader.close()


def look(options: MqttOptions, root: str, *, wait_s: float, stopping: Callable[[], bool]) -> Fleet:
    """Return the fleet when all that is retained has come, and after that numbers of every device, or `wait_s`.

    Raises ServiceAway, NotPermitted.
    """
    fleet = _Counting(root)
    with hearing(options, fleet) as reader:
        while not reader.granted and not stopping():
            reader.poll(_POLL_S)
        began_s = time.monotonic()
        while not stopping():
            now_s = time.monotonic()
            quiet = now_s - max(fleet.retained_s, began_s) >= _QUIET_S
            if quiet and (fleet.complete() or now_s - began_s >= wait_s):
                break
            reader.poll(_POLL_S)
    return fleet


class _Counting(Fleet):
    """A fleet that knows when something came: that a table is to be drawn anew, or that no more comes."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.came = 0
        self.retained_s = 0.0

    def take(self, topic: str, payload: bytes, now_s: float, *, retained: bool) -> None:
        """Take one message."""
        self.came += 1
        if retained:
            self.retained_s = now_s
        super().take(topic, payload, now_s, retained=retained)


def follow(
    options: MqttOptions, root: str, *, console: Console, matching: str, stopping: Callable[[], bool]
) -> None:
    """Show the table until `stopping()` or the key q. Raises ServiceAway, NotPermitted."""
    fleet, pages = _Counting(root), _Pages()
    drawn, drawn_s, rest_s = -1, 0.0, _DRAW_S
    with hearing(options, fleet) as reader, _keys() as pressed:
        while not reader.granted and not stopping():
            reader.poll(_POLL_S)
        with Live(console=console, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
            while not stopping():
                now_s = time.monotonic()
                due_s = drawn_s + (
                    _DRAW_S if pages.turned else rest_s if fleet.came != drawn else max(rest_s, _AGES_S)
                )
                if now_s >= due_s:
                    devices = fleet.devices(now_s, matching=matching)
                    first, count = pages.show(len(devices), page_size(console.height))
                    note = _KEYS if reader.connected else f"no connection to the broker; {_KEYS}"
                    live.update(
                        view(devices, summary(devices), first=first, count=count, note=note), refresh=True
                    )
                    drawn, drawn_s = fleet.came, time.monotonic()
                    rest_s = max(_DRAW_S, _DRAW_SHARE * (drawn_s - now_s))
                    due_s = drawn_s + rest_s
                reader.poll(max(0.0, min(_POLL_S, due_s - time.monotonic())))
                for key in pressed():
                    if key in "q\x03\x04":
                        return
                    pages.turn({"n": 1, " ": 1, "p": -1}.get(key, 0))


class _Pages:
    """Which page of the list is shown."""

    def __init__(self) -> None:
        self._page = 0
        self.turned = False

    def turn(self, by: int) -> None:
        """Go so many pages on."""
        self._page, self.turned = max(0, self._page + by), self.turned or by != 0

    def show(self, devices: int, size: int) -> tuple[int, int]:
        """Return the first device of the page, and how many it has."""
        self._page, self.turned = min(self._page, max(0, devices - 1) // size), False
        return self._page * size, size


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[], str]]:
    """Yield what returns the keys that were pressed since it was asked last; none where there is no keyboard."""
    if not sys.stdin.isatty():
        yield lambda: ""
        return
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)

    def pressed() -> str:
        ready, _, _ = select.select([handle], [], [], 0)
        return os.read(handle, 64).decode(errors="replace") if ready else ""

    try:
        tty.setcbreak(handle)
        yield pressed
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
