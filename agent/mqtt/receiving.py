"""What a client listens to on its broker, and who takes what comes; a subscription that is denied is told once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.transport import Received

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.client import MQTTMessage

    from agent.mqtt.client import Client

log = logging.getLogger(__name__)

_QOS = 1


class Receiving:
    """Topics without wildcards, each with who takes its messages; subscribed to anew on each connection.

    With MQTT 5 nothing retained comes with a subscription, unless it is asked for, and what was sent to be retained
    shows it; with 3.1.1 what was retained before comes, and shows it.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._takers: dict[str, Callable[[Received], None]] = {}
        self._kept: frozenset[str] = frozenset()
        self._asked: dict[int, str] = {}
        self._subscribed: set[str] = set()
        self._denied: set[str] = set()

    def listen(self, topic: str, take: Callable[[Received], None], *, kept: bool = False) -> None:
        """Have what comes on `topic` handed to `take`; `kept`: also what is retained. From any thread."""
        self._kept |= {topic} if kept else set()
        self._takers = {**self._takers, topic: take}

    def begin(self, client: Client) -> None:
        """Hear `client`, whose connection is new: nothing is subscribed to yet."""
        self._asked, self._subscribed = {}, set()
        client.on_message, client.on_subscribe = self._on_message, self._on_subscribe

    def subscribe(self, client: Client, *, new: bool) -> None:
        """Ask the broker for the topics that it was not asked for on this connection; `new`: it is of MQTT 5."""
        for topic in self._takers.keys() - self._subscribed:
            if new:
                _, mid = client.subscribe(topic, options=_options(kept=topic in self._kept))
            else:
                _, mid = client.subscribe(topic, _QOS)
            self._subscribed.add(topic)
            if mid is not None:
                self._asked[mid] = topic

    def _on_subscribe(self, _client: Any, _data: Any, mid: int, codes: Any, _given: Any) -> None:
        topic = self._asked.pop(mid, None)
        if topic is None:
            return
        if not any(code.is_failure for code in codes):
            self._denied.discard(topic)
        elif topic not in self._denied:
            self._denied.add(topic)
            reason = ", ".join(str(code) for code in codes)
            fix = f"let this login read {topic}; until then nothing that is sent there arrives"
            log.error("broker %s denies reading %s: %s; %s", self._where, topic, reason, fix)

    def _on_message(self, _client: Any, _data: Any, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        if (take := self._takers.get(topic)) is not None:
            given: object = message.properties  # None with 3.1.1
            response, correlation = (
                getattr(given, "ResponseTopic", None),
                getattr(given, "CorrelationData", None),
            )
            take(Received(topic, bytes(message.payload), bool(message.retain), response, correlation))


def properties_of(correlation: bytes | None, response_topic: str | None = None) -> Properties | None:
    """Return the properties of a PUBLISH that is an answer or wants one; None without any."""
    if correlation is None and response_topic is None:
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if correlation is not None:
        properties.CorrelationData = correlation
    if response_topic is not None:
        properties.ResponseTopic = response_topic
    return properties


def _options(*, kept: bool) -> SubscribeOptions:
    handling = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if kept else SubscribeOptions.RETAIN_DO_NOT_SEND
    return SubscribeOptions(qos=_QOS, noLocal=True, retainAsPublished=True, retainHandling=handling)
