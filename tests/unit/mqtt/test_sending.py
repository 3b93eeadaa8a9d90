"""What becomes of messages on one connection after the other, against a client that only counts."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from agent.mqtt import reasons
from agent.mqtt.causes import Causes
from agent.mqtt.connecting import Limits
from agent.mqtt.options import MqttOptions
from agent.mqtt.reconnecting import Reconnecting
from agent.mqtt.sending import Sending
from agent.transport import Message, Outcome, Report

OPTIONS = MqttOptions("b", max_in_flight=3)


@dataclass
class Client:
    """Numbers what is published."""

    sent: list[tuple[Any, ...]] = field(default_factory=list)

    def publish(self, topic: str, *more: Any) -> Any:
        if "#" in topic:
            raise ValueError("Publish topic cannot contain wildcards.")
        self.sent.append((topic, *more))
        return SimpleNamespace(mid=len(self.sent))


def begun(client: Any, *, max_packet_bytes: int = 0, retains: bool = True) -> Sending:
    """Return one whose broker has accepted `client`."""
    again = Reconnecting(OPTIONS, rng=random.Random(1))
    sending = Sending("b", Limits.of(None, OPTIONS), again, Causes(OPTIONS, "edge/dev"), lambda: 7.0)
    sending.accepted(client, Limits(3, max_packet_bytes, retains), new=False)
    return sending


def test_each_message_is_reported_once_and_what_is_left_at_the_end_is_lost() -> None:
    """An answer on a connection that is over is a stray, and no message's."""
    client: Any = Client()
    sending = begun(client)
    for key in range(3):
        sending.send(Message(key, "t", b"x"))
    assert sending.room == 0
    assert not sending.reported
    sending.answered(client, 2, reasons.SUCCESS)
    sending.answered(client, 2, reasons.SUCCESS)
    assert sending.room == 1
    assert sending.oldest_s(9.0) == 2.0
    sending.lost()
    sending.answered(client, 1, reasons.SUCCESS)
    assert [(r.key, r.outcome) for r in sending.take_reports()] == [
        (1, Outcome.DELIVERED),
        (0, Outcome.LOST),
        (2, Outcome.LOST),
    ]
    assert (sending.strays, sending.room, sending.reported) == (2, 0, False)


def test_an_answer_on_the_connection_before_is_to_nothing_on_this_one() -> None:
    """Both count their packets from one."""
    before: Any = Client()
    now: Any = Client()
    sending = begun(before)
    sending.lost()
    sending.accepted(now, Limits.of(None, OPTIONS), new=False)
    sending.send(Message(1, "t", b""))
    sending.answered(before, 1, reasons.SUCCESS)
    assert (sending.strays, sending.reported) == (1, False)
    sending.answered(now, 1, reasons.SUCCESS)
    assert sending.reported


@pytest.mark.parametrize(
    ("message", "report"),
    [
        (Message(1, "t", bytes(70)), Report(1, Outcome.REJECTED, "103 bytes, the broker takes 100")),
        (Message(2, "#", b""), Report(2, Outcome.REJECTED, "Publish topic cannot contain wildcards.")),
        (Message(3, "t", b"", qos=0), Report(3, Outcome.DELIVERED)),
    ],
)
def test_what_needs_no_answer_is_reported_at_once(message: Message, report: Report) -> None:
    """It takes no room."""
    sending = begun(Client(), max_packet_bytes=100)
    sending.send(message)
    assert sending.take_reports() == [report]
    assert sending.room == 3


def test_without_a_connection_it_is_lost_unless_it_will_never_be_taken() -> None:
    """The limits of the last broker still hold."""
    sending = begun(Client(), max_packet_bytes=100)
    sending.lost()
    sending.send(Message(1, "t", b""))
    sending.send(Message(2, "t", bytes(100)))
    assert [r.outcome for r in sending.take_reports()] == [Outcome.LOST, Outcome.REJECTED]


def test_the_largest_is_what_a_broker_did_not_want_to_see_again() -> None:
    """The others are lost with the connection, to be sent again."""
    sending = begun(Client())
    for key, size in enumerate((1, 9, 5)):
        sending.send(Message(key, "t", bytes(size)))
    sending.reject_largest("too large")
    sending.lost()
    assert {r.key: r.outcome for r in sending.take_reports()} == {
        0: Outcome.LOST,
        1: Outcome.REJECTED,
        2: Outcome.LOST,
    }


@pytest.mark.parametrize("retains", [True, False])
def test_nothing_is_retained_where_the_broker_keeps_nothing(retains: bool) -> None:
    """It would end the connection for it."""
    client: Any = Client()
    begun(client, retains=retains).send(Message(1, "t", b"", retain=True))
    assert client.sent[0][3] is retains


def test_after_a_short_connection_there_is_room_for_one() -> None:
    """Until the broker has taken one."""
    client: Any = Client()
    sending = begun(client)
    sending._again.stands(0.0)
    sending._again.lost(0.5)
    sending._again.stands(1.0)
    assert sending.room == 1
    sending.send(Message(1, "t", b""))
    assert sending.room == 0
    sending.answered(client, 1, reasons.SUCCESS)
    assert sending.room == 3
