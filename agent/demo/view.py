"""What the demo shows while it plays: a line for each event, above a progress bar."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from agent.eventline import event_line

if TYPE_CHECKING:
    from rich.console import Console

    from agent.wire import EventMessage


class View:
    """Lines and a bar on `console`; lines alone when it is no terminal.

    `bar` is to be entered as a context. `duration_s` is the length of the clip; at real-time pace the bar
    runs on between events by the clock.
    """

    def __init__(self, console: Console, *, duration_s: float, realtime: bool) -> None:
        self._console, self._duration_s, self._realtime = console, duration_s, realtime
        columns = (
            TextColumn("clip"),
            BarColumn(),
            TextColumn("{task.completed:4.1f} of {task.total:.0f} s"),
            TextColumn("[dim]{task.fields[events]} events"),
        )
        self.bar = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal, refresh_per_second=8
        )
        self._task = self.bar.add_task("", total=duration_s, events=0)
        self._events, self._position_s, self._at_s = 0, 0.0, 0.0

    def event(self, event: EventMessage) -> None:
        """Show one event as it came."""
        self._events += 1
        self._position_s, self._at_s = max(self._position_s, event.frame.pts_s), time.monotonic()
        self._console.print(event_line(event), soft_wrap=True)
        self.tick()

    def said(self, line: str) -> None:
        """Show a line that the agent wrote to its log."""
        self._console.print(Text(line, "yellow"), soft_wrap=True)

    def tick(self) -> None:
        """Move the bar to where the clip is now."""
        ahead_s = time.monotonic() - self._at_s if self._realtime and self._events else 0.0
        position_s = min(self._position_s + ahead_s, self._duration_s)
        self.bar.update(self._task, completed=position_s, events=self._events)
