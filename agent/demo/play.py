"""One play of the demo: the agent as a child process, a subscriber, and what came of it."""

from __future__ import annotations

import queue
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

import msgspec

from agent.demo.broker import child
from agent.demo.subscriber import Received, subscribed
from agent.errors import IOFault
from agent.topics import Topics
from agent.wire import EventMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.demo.broker import Broker
    from agent.demo.view import View

CAMERA, DEVICE = "demo", "demo-device"
_POLL_S = 0.1
_STOP_S = 15.0
_LAST_MESSAGES_S = 5.0
_ERROR = "edge-agent: error: "


@dataclass(slots=True)
class Seen:
    """What the subscriber got: `duplicates` are messages whose id had come before."""

    events: list[EventMessage] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    duplicates: int = 0

    def add(self, event: EventMessage) -> bool:
        """Count `event`; return whether it is new."""
        if event.id in self.ids:
            self.duplicates += 1
            return False
        self.ids.add(event.id)
        self.events.append(event)
        return True


@dataclass(frozen=True, slots=True)
class Said:
    """A line that the agent wrote; None: it has ended."""

    line: str | None


def play(command: list[str], broker: Broker, view: View, record: IO[bytes]) -> tuple[Seen, int, str]:
    """Run the agent by `command` until its end; return what came, its exit code, and why it failed.

    Every event is shown in `view` and its payload written to `record`. Raises ServiceAway when the broker
    dies, IOFault when `record` can't be written.
    """
    inbox: queue.SimpleQueue[Received | Said] = queue.SimpleQueue()
    names, seen, last = Topics.of(DEVICE), Seen(), "it wrote nothing"
    done = f"{names.base}/demo-done"
    with subscribed(broker, f"{names.base}/#", inbox.put) as publish, _agent(command, inbox.put) as agent:
        for item in _items(inbox, broker, view, done):
            if isinstance(item, Received) and item.topic == names.events(CAMERA):
                _take(item, seen, view, record)
            elif isinstance(item, Said) and item.line is None:
                publish(done)
            elif isinstance(item, Said) and item.line:
                last = item.line.removeprefix(_ERROR)
                if last == item.line:
                    view.said(item.line)
        code = agent.wait(_STOP_S)
    code = 128 - code if code < 0 else code
    return seen, code, f"the agent ended with exit code {code}: {last}"


def _items(
    inbox: queue.SimpleQueue[Received | Said], broker: Broker, view: View, done: str
) -> Iterator[Received | Said]:
    """Yield what comes until the mark `done` does, or the agent ended some time ago. Raises ServiceAway."""
    deadline_s = float("inf")
    while time.monotonic() < deadline_s:
        broker.check()
        view.tick()
        try:
            item = inbox.get(timeout=_POLL_S)
        except queue.Empty:
            continue
        if isinstance(item, Received) and item.topic == done:
            return
        if isinstance(item, Said) and item.line is None:
            deadline_s = time.monotonic() + _LAST_MESSAGES_S
        yield item


def _take(item: Received, seen: Seen, view: View, record: IO[bytes]) -> None:
    try:
        record.write(item.payload + b"\n")
    except OSError as error:
        raise IOFault("events.jsonl", seen=error.strerror, fix="make room, or name another --out") from error
    event = msgspec.json.decode(item.payload, type=EventMessage)
    if seen.add(event):
        view.event(event)


@contextmanager
def _agent(command: list[str], deliver: Callable[[Said], None]) -> Iterator[subprocess.Popen[bytes]]:
    """Run the agent, and deliver what it writes from a thread."""
    with child(command, stop_s=_STOP_S, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None  # noqa: S101  a pipe was asked for
        reader = threading.Thread(target=_read, args=(process.stdout, deliver), daemon=True)
        reader.start()
        yield process
    reader.join(_STOP_S)


def _read(pipe: IO[bytes], deliver: Callable[[Said], None]) -> None:
    with pipe:
        for line in pipe:
            deliver(Said(line.decode(errors="replace").rstrip()))
    deliver(Said(None))
