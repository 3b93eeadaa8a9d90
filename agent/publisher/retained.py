"""The last value of each retained topic: told when it changes, and again on every new connection."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from agent.transport import Message, Outcome

if TYPE_CHECKING:
    from agent.transport import Report

_REFUSED_S = 5.0
_AGAIN = {Outcome.LOST, Outcome.BUSY, Outcome.REFUSED, Outcome.DENIED}


class Retained:
    """Which values are still to be told, in the order of their topics' first value. From any thread.

    Of each topic one value is under way at a time. One that is denied is tried again after `hold_s`, also where the
    connection is a new one: a broker may end it at each denial. One that is refused for no known reason is tried
    again after five seconds. A deletion that is denied is given up: what is to go there is no concern of this login.
    """

    def __init__(self, hold_s: float) -> None:
        self._hold_s = hold_s
        self._lock = threading.Lock()
        self._values: dict[str, bytes] = {}
        self._unsent: set[str] = set()
        self._telling: set[str] = set()
        self._later: dict[str, float] = {}
        self._denied: set[str] = set()

    @property
    def denied(self) -> frozenset[str]:
        """The topics that the broker does not let us write."""
        with self._lock:
            return frozenset(self._denied)

    @property
    def under_way(self) -> int:
        """How many values are sent and not answered."""
        with self._lock:
            return len(self._telling)

    @property
    def done(self) -> bool:
        """Whether all was told that the broker lets us tell."""
        with self._lock:
            return not self._unsent.difference(self._later) and not self._telling

    def told(self, topic: str) -> bool:
        """Return whether the value of `topic` was taken as it is now."""
        with self._lock:
            return topic in self._values and topic not in self._unsent and topic not in self._telling

    @property
    def topics(self) -> list[str]:
        """The topics that have a value."""
        with self._lock:
            return list(self._values)

    def put(self, topic: str, payload: bytes) -> None:
        """Have `payload` as the value of `topic`."""
        with self._lock:
            self._values[topic] = payload
            self._unsent.add(topic)

    def begin(self) -> None:
        """Have all of them told again: the connection is new."""
        with self._lock:
            self._unsent = set(self._values)
            self._later = {topic: s for topic, s in self._later.items() if topic in self._denied}

    def take(self, limit: int, now_s: float) -> list[Message]:
        """Return up to `limit` messages to send now."""
        with self._lock:
            if not self._unsent:
                return []
            ready = [
                topic
                for topic in self._values
                if topic in self._unsent
                and topic not in self._telling
                and self._later.get(topic, now_s) <= now_s
            ]
            self._unsent.difference_update(ready[:limit])
            self._telling.update(ready[:limit])
            return [Message(topic, topic, self._values[topic], retain=True) for topic in ready[:limit]]

    def settle(self, topic: str, report: Report, now_s: float) -> bool:
        """Note what became of the value under way; return whether the broker newly refuses this topic."""
        with self._lock:
            known = topic in self._later or topic in self._denied
            self._telling.discard(topic)
            self._later.pop(topic, None)
            if report.outcome is not Outcome.LOST:
                self._denied.discard(topic)
            if report.outcome is Outcome.DENIED and self._values.get(topic) == b"":
                del self._values[topic]
                self._unsent.discard(topic)
                return not known
            if report.outcome in _AGAIN:
                self._unsent.add(topic)
            if report.outcome is Outcome.DENIED:
                self._denied.add(topic)
                self._later[topic] = now_s + self._hold_s
            elif report.outcome is Outcome.REFUSED:
                self._later[topic] = now_s + _REFUSED_S
            return not known and report.outcome in {Outcome.DENIED, Outcome.REFUSED, Outcome.REJECTED}

    def forget_under_way(self) -> None:
        """Have what was under way told again."""
        with self._lock:
            self._unsent |= self._telling
            self._telling.clear()
