"""Which retained values are still to be told."""

from __future__ import annotations

from agent.publisher.retained import Retained
from agent.transport import Outcome, Report


def settle(retained: Retained, topic: str, outcome: Outcome, now_s: float = 0.0) -> bool:
    return retained.settle(topic, Report(topic, outcome), now_s)


def taken(retained: Retained, now_s: float = 0.0, limit: int = 9) -> list[tuple[str, bytes]]:
    return [(m.topic, m.payload) for m in retained.take(limit, now_s) if m.retain]


def test_the_last_value_wins_and_one_is_under_way_at_a_time() -> None:
    """A value put while the one before is under way is told after it; nothing is told twice."""
    retained = Retained(60.0)
    retained.put("a", b"1")
    retained.put("b", b"1")
    retained.put("a", b"2")
    assert taken(retained, limit=1) == [("a", b"2")]
    retained.put("a", b"3")
    assert taken(retained) == [("b", b"1")]
    assert not settle(retained, "a", Outcome.DELIVERED)
    assert taken(retained) == [("a", b"3")]
    assert not retained.done
    settle(retained, "a", Outcome.DELIVERED)
    settle(retained, "b", Outcome.DELIVERED)
    assert retained.done


def test_a_new_connection_gets_all_of_them() -> None:
    """In the order of their first values; so does one that went before an answer came."""
    retained = Retained(60.0)
    for topic in "ab":
        retained.put(topic, b"1")
    taken(retained)
    for topic in "ab":
        settle(retained, topic, Outcome.LOST if topic == "b" else Outcome.DELIVERED)
    retained.begin()
    assert taken(retained) == [("a", b"1"), ("b", b"1")]
    retained.forget_under_way()
    assert taken(retained) == [("a", b"1"), ("b", b"1")]


def test_a_denied_topic_is_tried_every_minute_and_holds_up_no_drain() -> None:
    """It is reported once, known as denied, and told in the end; the last value, not the first."""
    retained = Retained(60.0)
    retained.put("a", b"1")
    taken(retained)
    assert settle(retained, "a", Outcome.DENIED, 0.0)
    retained.put("a", b"2")
    assert taken(retained, 59.0) == []
    assert retained.done
    assert retained.denied == {"a"}
    assert taken(retained, 60.0) == [("a", b"2")]
    assert not settle(retained, "a", Outcome.DENIED, 60.0)
    assert taken(retained, 120.0) == [("a", b"2")]
    settle(retained, "a", Outcome.DELIVERED, 120.0)
    assert not retained.denied
    assert retained.done


def test_a_refusal_without_a_known_reason_is_tried_soon() -> None:
    """A broker that is out of order for some seconds has the values soon after; it is reported once."""
    retained = Retained(60.0)
    retained.put("a", b"1")
    taken(retained)
    assert settle(retained, "a", Outcome.REFUSED, 0.0)
    assert taken(retained, 4.9) == []
    assert taken(retained, 5.0) == [("a", b"1")]
    assert not retained.denied
    settle(retained, "a", Outcome.DELIVERED, 5.0)
    assert retained.done


def test_what_is_denied_waits_on_a_new_connection_too() -> None:
    """A broker that ends the connection at each denial is not asked again at once; the others are told."""
    retained = Retained(60.0)
    for topic in "ab":
        retained.put(topic, b"1")
    taken(retained)
    assert settle(retained, "a", Outcome.DENIED, 0.0)
    settle(retained, "b", Outcome.LOST, 0.0)
    retained.begin()
    assert taken(retained, 1.0) == [("b", b"1")]
    settle(retained, "b", Outcome.DELIVERED, 1.0)
    assert taken(retained, 60.0) == [("a", b"1")]
    assert not settle(retained, "a", Outcome.LOST, 60.0)
    assert retained.denied == {"a"}
    assert taken(retained, 61.0) == [("a", b"1")]
    assert not settle(retained, "a", Outcome.DENIED, 61.0)


def test_a_deletion_that_is_denied_is_given_up() -> None:
    """It is reported, and not known as denied: this device lacks nothing."""
    retained = Retained(60.0)
    retained.put("a", b"")
    taken(retained)
    assert settle(retained, "a", Outcome.DENIED)
    assert not retained.denied
    assert retained.done
    assert not retained.told("a")
    retained.begin()
    assert taken(retained, 60.0) == []
