"""The publishes on one connection that the broker has not answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.transport import Message


class InFlight:
    """Messages by their packet id, the first sent first; time is an argument."""

    def __init__(self) -> None:
        self._messages: dict[int, Message] = {}
        self._sent_s: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, packet_id: int, message: Message, now_s: float) -> None:
        """Note that `message` was sent."""
        self._messages[packet_id], self._sent_s[packet_id] = message, now_s

    def answered(self, packet_id: int) -> Message | None:
        """Return the message that was answered, which is forgotten; None where none is under way."""
        self._sent_s.pop(packet_id, None)
        return self._messages.pop(packet_id, None)

    def largest(self) -> Message | None:
        """Return the one with the largest payload, which is forgotten; None without any."""
        if not self._messages:
            return None
        return self.answered(max(self._messages, key=lambda each: len(self._messages[each].payload)))

    def oldest_s(self, now_s: float) -> float:
        """Return for how long the first one waits; 0 without any."""
        return now_s - next(iter(self._sent_s.values()), now_s)

    def forget(self) -> list[Message]:
        """Return all, which are forgotten."""
        messages = list(self._messages.values())
        self._messages.clear()
        self._sent_s.clear()
        return messages
