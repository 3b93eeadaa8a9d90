"""The last answer to each of the last commands: one that is sent again is answered, not done again."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

if TYPE_CHECKING:
    from agent.wire import CommandResult

MOST = 1000
MOST_BYTES = 1 << 20


class Memory:
    """Answers by the id of their command; the results of old ones are forgotten before their ids. From any thread."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._lock = threading.Lock()
        self._answers: dict[str, CommandResult] = {}
        self._bytes: dict[str, int] = {}

    def __contains__(self, command_id: object) -> bool:
        with self._lock:
            return command_id in self._answers

    def put(self, answer: CommandResult) -> None:
        """Keep `answer` as the last one to its command."""
        with self._lock:
            self._answers[answer.id] = answer
            self._bytes.pop(answer.id, None)
            self._bytes[answer.id] = len(msgspec.json.encode(answer.result))
            if len(self._answers) > self._most:
                oldest = next(iter(self._answers))
                del self._answers[oldest]
                self._bytes.pop(oldest, None)
            while sum(self._bytes.values()) > self._most_bytes:
                self._shorten(next(iter(self._bytes)))

    def get(self, command_id: str) -> CommandResult | None:
        """Return the last answer to the command, None where that is not known any more."""
        with self._lock:
            return self._answers.get(command_id)

    def _shorten(self, command_id: str) -> None:
        del self._bytes[command_id]
        before = self._answers[command_id]
        self._answers[command_id] = replace(before, reason="its result is not kept any more", result=None)
