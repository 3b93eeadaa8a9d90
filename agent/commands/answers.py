"""What is told to who sent a command, and where."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from agent import clock, wire

if TYPE_CHECKING:
    from agent.commands.memory import Memory
    from agent.payloads import CommandState
    from agent.publisher.publisher import Publisher

PROGRESS_S = 1.0
"""Progress is told no more often."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where an answer goes, and what makes its receiver know it."""

    topic: str
    correlation: bytes | None = None


class Answers:
    """The answers to one command along `route`; what is told of a command that was taken is kept in `memory`."""

    def __init__(
        self, publisher: Publisher, route: Route, memory: Memory | None, *, command_id: str, op: str
    ) -> None:
        self._publisher, self._route, self._memory = publisher, route, memory
        self._id, self._op = command_id, op
        self._progress_s = float("-inf")

    def tell(self, state: CommandState, *, reason: str = "", result: object = None) -> None:
        """Send an answer, at best effort."""
        now = clock.time_base().utc(time.monotonic())
        answer = wire.CommandResult(wire.SCHEMA_VERSION, self._id, self._op, state, reason, result, now)
        if self._memory is not None:
            self._memory.put(answer)
        send(self._publisher, self._route, answer)

    def progress(self, result: object) -> None:
        """Tell how far it is, once a second at most."""
        now_s = time.monotonic()
        if now_s - self._progress_s >= PROGRESS_S:
            self._progress_s = now_s
            self.tell("progress", result=result)


def send(publisher: Publisher, route: Route, answer: wire.CommandResult) -> None:
    """Send `answer` along `route`, at best effort."""
    publisher.note(route.topic, msgspec.json.encode(answer), correlation=route.correlation)
