"""An event as one line for people."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from agent.wire import EventMessage

_STYLES = {"new": "bold green", "update": "cyan", "end": "magenta"}


def event_line(event: EventMessage) -> Text:
    """Return `event` as one line: time, type, label, score, track, zones, life span, age of the frame.

    The reason of an end is told unless the object simply left.
    """
    moment = datetime.fromisoformat(event.time.replace("Z", "+00:00")).astimezone()
    style = _STYLES[event.type]
    line = Text.assemble(
        (f"{moment:%H:%M:%S}.{moment.microsecond // 100_000}  ", "dim"),
        (f"{event.type:7}", style),
        (f"{event.label} {event.score:.2f}  ", "bold" if event.type == "new" else ""),
        (short_id(event.event_id), style),
    )
    if event.zones:
        line.append(f"  in {', '.join(event.zones)}")
    if event.end_time is not None:
        line.append(f"  was here {seconds_between(event.start_time, event.end_time):.1f} s")
        if event.reason and event.reason != "lost":
            line.append(f" ({event.reason})")
    elif event.stationary:
        line.append("  stationary")
    return line.append(f"  frame was {event.frame.age_ms:.0f} ms old", "dim")


def short_id(event_id: str) -> str:
    """Return what tells the tracks of one run apart at a glance."""
    return f"#{event_id.rsplit('-', 1)[-1][-4:]}"


def seconds_between(start: str, end: str) -> float:
    """Return the seconds from one RFC 3339 time to another."""
    first, last = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (start, end))
    return (last - first).total_seconds()
