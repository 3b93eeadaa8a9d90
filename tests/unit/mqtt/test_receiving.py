"""What a client listens to, and a topic on which far too much comes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from agent.mqtt.receiving import FLOOD, FLOOD_HZ, Receiving

if TYPE_CHECKING:
    import pytest


class Broker:
    """Notes what a client asks for, and sends it messages."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.asked: list[str] = []
        self.taken: list[str] = []
        self.on_message: Any = None
        self.receiving = Receiving("mqtt://b", lambda: self.now_s)
        for topic in ("a", "b"):
            self.receiving.listen(topic, lambda received: self.taken.append(received.topic))
        self.connect()

    def connect(self) -> None:
        client: Any = self
        self.receiving.begin(client, self.now_s)
        self.look()

    def look(self) -> list[str]:
        """Let it ask; return what it asked for."""
        self.asked.clear()
        client: Any = self
        self.receiving.subscribe(client, self.now_s, new=True)
        return sorted(self.asked)

    def subscribe(self, topic: str, *, options: object) -> tuple[int, None]:
        assert options
        self.asked.append(f"+{topic}")
        return 0, None

    def send(self, topic: str, count: int) -> int:
        """Send so many messages; return how many were taken."""
        before = len(self.taken)
        for _ in range(count):
            self.on_message(
                None, None, SimpleNamespace(topic=topic, payload=b"", retain=False, properties=None)
            )
        return len(self.taken) - before


def test_a_flooded_topic_is_left_alone_for_five_minutes(caplog: pytest.LogCaptureFixture) -> None:
    """It is told once; on a new connection the others are asked for, and later it as well."""
    broker = Broker()
    assert not broker.receiving.flooded
    assert broker.send("a", 5 * FLOOD) == FLOOD
    assert broker.receiving.flooded
    assert len(caplog.messages) == 1
    assert "a is flooded" in caplog.text
    broker.connect()
    assert broker.asked == ["+b"]
    assert not broker.receiving.flooded
    assert broker.send("b", 3) == 3
    broker.now_s = 299.0
    assert broker.look() == []
    assert broker.receiving.unread == ("a",)
    broker.now_s = 301.0
    assert broker.receiving.unread == ()
    assert broker.look() == ["+a"]
    assert broker.send("a", 3) == 3
    assert len(caplog.messages) == 1


def test_what_comes_within_the_pace_is_no_flood() -> None:
    """For an hour at half the rate."""
    broker = Broker()
    for second in range(3600):
        broker.now_s = float(second)
        assert broker.send("a", int(FLOOD_HZ / 2)) == FLOOD_HZ / 2
    assert broker.look() == []
