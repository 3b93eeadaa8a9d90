"""Messages that are not kept: each is sent once, as soon as may be, or dropped and counted."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

from agent.transport import Message, Outcome

if TYPE_CHECKING:
    from agent.transport import Report

log = logging.getLogger(__name__)

MOST = 64
"""So many wait; the oldest gives way."""
AT_ONCE = 4
"""So many are under way at the same time: all other room is for events."""
_MARK = "#"  # no topic has it: no retained message has such a key


class Notes:
    """Answers to who asked: in memory alone, never tried again. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Message] = deque()
        self._under_way: set[str] = set()
        self._denied: set[str] = set()
        self._number = self.dropped = 0

    def put(self, topic: str, payload: bytes, correlation: bytes | None) -> None:
        """Have `payload` sent to `topic`, before anything else that waits."""
        with self._lock:
            self._number += 1
            key = f"{_MARK}{self._number}"
            self._waiting.append(Message(key, topic, payload, correlation=correlation))
            if len(self._waiting) > MOST:
                self._waiting.popleft()
                self.dropped += 1

    def take(self, room: int) -> list[Message]:
        """Return up to `room` messages to send now."""
        with self._lock:
            count = min(room, AT_ONCE - len(self._under_way), len(self._waiting))
            taken = [self._waiting.popleft() for _ in range(count)]
            self._under_way.update(str(message.key) for message in taken)
            return taken

    def settle(self, report: Report) -> bool:
        """Note what became of a note; return False where `report` is of something else."""
        with self._lock:
            if report.key not in self._under_way:
                return isinstance(report.key, str) and report.key.startswith(_MARK)
            self._under_way.discard(str(report.key))
            self.dropped += report.outcome is not Outcome.DELIVERED
            told = report.detail not in self._denied
            if report.outcome in {Outcome.DENIED, Outcome.REJECTED, Outcome.REFUSED} and told:
                self._denied.add(report.detail)
                log.warning("the broker does not take an answer (%s): it is dropped", report.detail)
            return True

    def forget_under_way(self) -> None:
        """Drop what was under way."""
        with self._lock:
            self.dropped += len(self._under_way)
            self._under_way.clear()
