"""What the broker would not take, on a clock of the test's."""

from __future__ import annotations

import random

from agent.publisher.held import PATIENCE_S, REFUSALS, Held
from agent.transport import Message


def held() -> Held:
    return Held(hold_s=60.0, rng=random.Random(1))


def message(key: int, topic: str = "t") -> Message:
    return Message(key, topic, b"")


def refuse_for(held: Held, seconds: float, *, arrived_later: int) -> list[str]:
    """Refuse message 1 whenever it is due, for `seconds`; return the verdicts."""
    now_s, verdicts = 0.0, [held.refuse(message(1), 0.0, arrived=0)]
    while now_s < seconds and verdicts[-1] == "aside":
        now_s += max(0.001, held.wait_s(now_s))
        assert held.due(now_s) == [message(1)]
        verdicts.append(held.refuse(message(1), now_s, arrived=arrived_later))
    return verdicts


def test_of_a_denied_topic_one_message_is_tried_again() -> None:
    """The first one stays, the others go back; its turn comes every minute, until it gets through."""
    kept = held()
    assert kept.deny(message(1), 0.0) == "aside"
    assert kept.deny(message(2), 0.1) == "back"
    assert kept.deny(message(3, "u"), 0.1) == "aside"
    assert kept.topics == {"t", "u"}
    assert kept.due(59.0) == []
    assert kept.due(60.0) == [message(1)]
    assert kept.deny(message(1), 60.0) == "aside"
    assert kept.due(119.0) == [message(3, "u")]
    assert kept.settled(message(1))
    assert kept.topics == {"u"}
    assert not kept.settled(message(2))


def test_a_refused_message_has_ten_minutes() -> None:
    """Refused again and again while others arrive: a dead letter, but not before five tries and ten minutes."""
    verdicts = refuse_for(held(), 2 * PATIENCE_S, arrived_later=1)
    assert verdicts[-1] == "dead"
    assert REFUSALS < len(verdicts) < 40
    assert "dead" not in refuse_for(held(), PATIENCE_S - 61, arrived_later=1)


def test_nothing_is_a_dead_letter_while_nothing_arrives() -> None:
    """A broker that refuses everything for an hour is out of order; what it refuses is not."""
    assert "dead" not in refuse_for(held(), 3600, arrived_later=0)


def test_when_many_are_refused_they_all_wait_again() -> None:
    """The ninth refusal at once says that it is not the message: those aside are handed back."""
    kept = held()
    verdicts = [kept.refuse(message(n), 0.0, arrived=0) for n in range(9)]
    assert verdicts == ["aside"] * 8 + ["back"]
    assert kept.release() == [message(n) for n in range(8)]
    assert kept.due(1e9) == []
