"""The demo's subscriber: a client of its own, as a user's would be."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.errors import ServiceAway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.demo.broker import Broker

_CONNECT_S = 10.0
_QOS = 1


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it came, and when on CLOCK_MONOTONIC."""

    topic: str
    payload: bytes
    at_s: float


@contextmanager
def subscribed(
    broker: Broker, topic: str, deliver: Callable[[Received], None]
) -> Iterator[Callable[[str], None]]:
    """Call `deliver` from a thread for each message on `topic`; yields a function that publishes to a topic.

    What it publishes within `topic` comes back behind everything that the broker took before: a mark for
    "that was all". Raises ServiceAway when the broker does not grant the subscription.
    """
    granted = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion(broker.protocol))
    client.on_connect = lambda *_: _ignore(client.subscribe(topic, _QOS))
    client.on_subscribe = lambda *_: granted.set()
    client.on_message = lambda _, __, message: deliver(_received(message))
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        if not granted.wait(_CONNECT_S):
            broker.check()
            raise ServiceAway(f"the broker {broker.name} did not answer", seen=f"{_CONNECT_S:.0f} s")
        yield lambda mark: _ignore(client.publish(mark, b"", _QOS))
    finally:
        client.disconnect()
        client.loop_stop()


def _received(message: MQTTMessage) -> Received:
    return Received(message.topic, bytes(message.payload), time.monotonic())


def _ignore(_: object) -> None:
    """Drop what paho returns at once: what counts is what comes back."""
