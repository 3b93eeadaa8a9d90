"""Outbox, publisher and MQTT against a broker that does not do what it should."""

from __future__ import annotations

import json
import random
import struct
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from agent.mqtt.options import MqttOptions
from agent.mqtt.transport import MqttTransport
from agent.outbox.ledger import Lane
from agent.transport import Message, Outcome
from tests.e2e.brokers import FakeBroker, wait_for
from tests.e2e.sender import TOPICS, Sender, ids, lane_order_holds
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

V311_ACCEPTED = b"\x20\x02\x00\x00"
V5_ACCEPTED = b"\x20\x03\x00\x00\x00"
NO_CONNACK = b"\xd0\x00"  # the answer to a ping
TAKEN_OVER, TOO_LARGE = b"\xe0\x02\x8e\x00", b"\xe0\x02\x95\x00"


def puback(mid: int, code: int = 0) -> bytes:
    """Return a PUBACK of MQTT 5."""
    return struct.pack("!BBHB", 0x40, 3, mid, code)


def events_of(broker: FakeBroker) -> list[bytes]:
    """Return the payloads of the events that the broker answered."""
    bodies = [body for body in broker.published if b"/events/" in body]
    return [body[body.index(b'{"') :] for body in bodies]


def poll_until(transport: MqttTransport, done: Callable[[], object]) -> None:
    """Poll until `done()`, at most five seconds; reports are dropped."""

    def polled() -> object:
        transport.poll(0.02)
        return done()

    wait_for(polled, HANGS_S, "the transport")


def give_ups(broker: FakeBroker, count: int, *, message: bool, timeout_s: float) -> list[float]:
    """Connect `count` times, each to be given up; return the waits after them, on a clock of the test's.

    With `message` one is published as soon as a connection stands; else the clock goes on to `timeout_s`.
    """
    now, waits = [0.0], []
    transport = MqttTransport(
        MqttOptions("127.0.0.1", broker.port), rng=random.Random(1), clock=lambda: now[0]
    )
    for _ in range(count):
        transport.poll(0.0)
        wait_for(lambda: broker.levels, HANGS_S, "the connection")
        if message:
            poll_until(transport, lambda: transport.room)
            transport.send(Message(1, "t", b"{}"))
        else:
            now[0] += timeout_s - 0.01
            transport.poll(0.02)
            assert transport._client is not None, "given up too early"
            now[0] += 0.02
        poll_until(transport, lambda: transport._client is None)
        waits.append(transport._next_try_s - now[0])
        now[0] = transport._next_try_s
    transport.close()
    return waits


def assert_waits_grow(waits: list[float]) -> None:
    """Each lies between half and all of a bound that doubles from one second to a minute, and they differ."""
    for n, wait_s in enumerate(waits):
        bound_s = min(60.0, 2.0**n)
        assert bound_s / 2 <= wait_s <= bound_s
    assert len({round(wait_s / min(60.0, 2.0**n), 3) for n, wait_s in enumerate(waits)}) > len(waits) // 2


def test_a_broker_that_gives_no_connack_is_given_up_after_ten_seconds() -> None:
    """At ten seconds, not before; the waits for the next try grow, with jitter, up to a minute."""
    with FakeBroker(lambda _: NO_CONNACK) as broker:
        assert_waits_grow(give_ups(broker, 9, message=False, timeout_s=10.0))
    assert set(broker.levels) == {5, 4}


def test_a_broker_that_drops_at_every_puback_is_tried_every_half_minute() -> None:
    """A CONNACK that is followed by a drop is no success: in the steady state two tries are 30 s apart, or more."""
    with FakeBroker(lambda _: V5_ACCEPTED, lambda _: None) as broker:
        waits = give_ups(broker, 10, message=True, timeout_s=0.0)
    assert_waits_grow(waits)
    assert min(waits[6:]) >= 30
    assert broker.levels == [5] * 10
    assert broker.published == []


def test_a_broker_that_never_answers_a_publish_is_given_up_after_a_minute() -> None:
    """It answers pings, so the connection stands: after 60 s without a PUBACK it is dropped, and waits grow."""
    now = [0.0]
    with FakeBroker(lambda _: V5_ACCEPTED, lambda _: b"") as broker:
        transport = MqttTransport(
            MqttOptions("127.0.0.1", broker.port), rng=random.Random(1), clock=lambda: now[0]
        )
        waits = []
        for n in range(8):
            poll_until(transport, lambda: transport.room)
            transport.send(Message(n, "t", b"{}"))
            now[0] += 30.0
            assert transport.poll(0.02) == []
            transport.send(Message(100, "t", b"{}"))
            now[0] += 30.1
            assert [(r.key, r.outcome) for r in transport.poll(0.02)] == [
                (n, Outcome.LOST),
                (100, Outcome.LOST),
            ]
            assert "no PUBACK within 60 s" in transport.link.error
            assert not transport.link.connected
            waits.append(transport._next_try_s - now[0])
            now[0] = transport._next_try_s
        transport.close()
    assert_waits_grow(waits)


def test_the_birth_taken_is_no_success_either() -> None:
    """A broker that takes a few messages at each connection and then drops is tried ever more rarely as well."""
    taken = [0]

    def answer(mid: int) -> bytes | None:
        taken[0] += 1
        return puback(mid) if mid < 3 else None

    now, waits = [0.0], []
    with FakeBroker(lambda _: V5_ACCEPTED, answer) as broker:
        transport = MqttTransport(
            MqttOptions("127.0.0.1", broker.port), rng=random.Random(1), clock=lambda: now[0]
        )
        for _ in range(7):
            poll_until(transport, lambda: transport.room)
            for key in range(3):
                transport.send(Message(key, "t", b"{}"))
            wait_for(
                lambda: (transport.poll(0.02) and False) or transport._client is None, HANGS_S, "the drop"
            )
            waits.append(transport._next_try_s - now[0])
            now[0] = transport._next_try_s
        transport.close()
    assert_waits_grow(waits)


def test_duplicate_and_unknown_pubacks_are_passed_over_and_counted(tmp_path: Path) -> None:
    """Two answers to each message and one to none: every event is confirmed once, the strays are counted."""
    with FakeBroker(
        lambda _: V5_ACCEPTED, lambda mid: puback(mid) * 2 + puback(mid + 30_000, 0x87)
    ) as broker:
        sender = Sender(tmp_path, broker.port)
        sender.put(30)
        assert sender.outbox.flush(HANGS_S)
        assert sender.publisher.drain(HANGS_S)
        wait_for(lambda: sender.publisher.state.strays >= 60, HANGS_S, "the strays")
        state, counts = sender.publisher.state, sender.outbox.counts()
        sender.close()
    assert state.delivered == sum(c.confirmed for c in counts.values()) == 30
    assert state.denied == state.faults == 0
    assert state.denied_topics == ()
    assert len(broker.levels) == 1


@pytest.mark.parametrize(
    ("code", "account"),
    [
        (0x10, "confirmed"),
        (0x80, "queued"),
        (0x87, "queued"),
        (0x90, "rejected"),
        (0x95, "rejected"),
        (0x97, "queued"),
        (0x99, "rejected"),
        (0x42, "queued"),
    ],
)
def test_reason_codes_of_a_puback(tmp_path: Path, code: int, account: str) -> None:
    """Each code does what it should to its row: delivered, kept, or a dead letter that is reported as a gap."""
    answer = lambda mid: puback(mid, code if b"/events/" in broker.seen[-1] else 0)  # noqa: E731
    with FakeBroker(lambda _: V5_ACCEPTED, answer) as broker:
        sender = Sender(tmp_path, broker.port)
        sender.put(1)
        assert sender.outbox.flush(HANGS_S)
        wait_for(lambda: events_of(broker), HANGS_S, "the event")
        told = {"confirmed": "delivered", "rejected": "rejected"}.get(account)
        name = told or {0x87: "denied", 0x97: "busy"}.get(code, "refused")
        wait_for(lambda: getattr(sender.publisher.state, name) == 1, HANGS_S, name)
        assert getattr(sender.outbox.counts()[Lane.P0], account) == 1
        if account == "rejected":
            wait_for(lambda: any(b'"rejected"' in p for p in broker.published), HANGS_S, "the gap")
        if code == 0x87:
            assert sender.publisher.state.denied_topics == (TOPICS.events("yard"),)
        assert sender.publisher.state.faults == 0
        assert len(broker.levels) == 1, "the connection stands"
        sender.close()


def test_a_storm_of_refusals_loses_nothing(tmp_path: Path) -> None:
    """Each event is refused twice: no dead letter, all arrive, in their order."""
    tries: Counter[bytes] = Counter()
    taken: list[bytes] = []

    def answer(mid: int) -> bytes:
        body = broker.seen[-1]
        if b"/events/" in body:
            event = body[body.index(b'{"') :]
            tries[event] += 1
            if tries[event] <= 2:
                return puback(mid, 0x80)
            taken.append(event)
        return puback(mid)

    with FakeBroker(lambda _: V5_ACCEPTED, answer) as broker:
        sender = Sender(tmp_path, broker.port)
        sent = sender.put(40)
        wait_for(lambda: sender.publisher.state.refused >= 40, HANGS_S, "the storm")
        assert sender.finish(HANGS_S)
        state, counts = sender.publisher.state, sender.outbox.counts()
    assert (state.refused, state.rejected) == (80, 0)
    assert sum(c.confirmed for c in counts.values()) == 40
    assert sorted(ids(taken)) == sorted(sent)
    assert lane_order_holds(ids(taken))


def test_one_event_that_is_refused_holds_up_no_other(tmp_path: Path) -> None:
    """The others arrive at once; it is kept, and tried again."""
    answer = lambda mid: puback(mid, 0x80 if b'"event_id":"e2"' in broker.seen[-1] else 0)  # noqa: E731
    with FakeBroker(lambda _: V5_ACCEPTED, answer) as broker:
        sender = Sender(tmp_path, broker.port)
        sender.put(6)
        assert sender.outbox.flush(HANGS_S)
        wait_for(lambda: sender.publisher.state.delivered == 5, HANGS_S, "the others")
        wait_for(lambda: sender.publisher.state.refused >= 2, HANGS_S, "a second try")
        assert not sender.publisher.drain(0.1)
        counts = sender.outbox.counts()
        sender.close()
    assert sum(c.queued for c in counts.values()) == 1
    assert sender.publisher.state.rejected == 0


@pytest.mark.parametrize(
    "refusal", [b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00", b""], ids=["0x01", "0x84", "drops"]
)
def test_an_old_broker_gets_3_1_1(tmp_path: Path, refusal: bytes) -> None:
    """However a broker refuses version 5, it is tried with 3.1.1 and gets every event."""
    v311_puback = lambda mid: struct.pack("!BBH", 0x40, 2, mid)  # noqa: E731
    with FakeBroker(lambda level: refusal if level == 5 else V311_ACCEPTED, v311_puback) as broker:
        sender = Sender(tmp_path, broker.port)
        sender.put(10)
        assert sender.finish()
    assert broker.levels[:2] == [5, 4]
    assert len(events_of(broker)) == 10


def test_an_old_broker_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """At the first connection one warning says what 3.1.1 hides; at those that follow none."""
    with FakeBroker(lambda _: V311_ACCEPTED, lambda _: None) as broker:
        options = MqttOptions(
            "127.0.0.1", broker.port, protocol="3.1.1", backoff_first_s=0.01, backoff_max_s=0.02
        )
        transport = MqttTransport(options, rng=random.Random(1))
        for session in range(1, 4):
            wait_for(lambda: (transport.poll(0.02) and False) or transport.room, HANGS_S, "room")
            assert transport.link.session == session
            transport.send(Message(1, "t", b"{}"))
            poll_until(transport, lambda: transport._client is None)
        transport.close()
    assert broker.levels == [4] * 3
    assert len([r for r in caplog.records if "MQTT 3.1.1 only" in r.getMessage()]) == 1


def test_a_name_that_two_use_is_told_and_not_fought_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Taken over again and again: one line says why and what to do, and the tries become rare."""
    with FakeBroker(lambda _: V5_ACCEPTED, lambda _: TAKEN_OVER) as broker:
        sender = Sender(tmp_path, broker.port, backoff_first_s=0.02, backoff_max_s=30, stable_s=0.0)
        wait_for(lambda: len(broker.levels) >= 4, HANGS_S, "some tries")
        sender.close()
    lines = [r.getMessage() for r in caplog.records if "same device name (edge/dev1)" in r.getMessage()]
    assert lines
    assert "another device name" in lines[0]


def test_a_message_that_ends_the_connection_by_its_size_is_given_up(tmp_path: Path) -> None:
    """DISCONNECT 0x95: the largest under way is a dead letter, so that the others get through."""

    def answer(mid: int) -> bytes:
        return TOO_LARGE if len(broker.seen[-1]) > 5000 else puback(mid)

    with FakeBroker(lambda _: V5_ACCEPTED, answer) as broker:
        sender = Sender(tmp_path, broker.port, backoff_first_s=0.02, backoff_max_s=0.05)
        sender.put(3)
        sender.outbox.put(Lane.P0, TOPICS.events("yard"), lambda i: str(i).encode().ljust(9000))
        assert sender.finish(HANGS_S)
        counts = sender.outbox.counts()
    assert (counts[Lane.P0].evicted, sum(c.confirmed for c in counts.values())) == (1, 3)
    assert any(b'"rejected"' in p for p in broker.published)


def test_what_piled_up_drains_behind_a_new_epoch(tmp_path: Path) -> None:
    """The broker refuses the first connections: at the first that stands two births tell both epochs, in order."""
    refusals: list[Any] = [b"\x20\x03\x00\x88\x00"] * 2

    def connack(_: int) -> bytes:
        return refusals.pop() if refusals else V5_ACCEPTED

    with FakeBroker(connack, puback) as broker:
        sender = Sender(tmp_path, broker.port)
        epoch = sender.outbox.epoch
        sent = sender.put(150)
        assert sender.finish()
        counts = sender.outbox.counts()
    births = [json.loads(b[b.index(b'{"') :]) for b in broker.published if b"/status" in b and b"online" in b]
    assert [birth["epoch"] for birth in births] == [epoch, sender.outbox.epoch]
    assert births[1]["previous"] == {"epoch": epoch, "last_seq": {"P0": 100, "P1": 50}}
    assert sorted(ids(events_of(broker))) == sorted(sent)
    assert lane_order_holds(ids(events_of(broker)))
    assert counts[Lane.P0].confirmed == 100
