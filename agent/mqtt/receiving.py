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
_ENDED = 3  # so many connections in a row may end before a subscription is answered
_REST_S = 300.0


class Receiving:
    """Topics without wildcards, each with who takes its messages; subscribed to anew on each connection.

    With MQTT 5 nothing retained comes with a subscription, unless it is asked for, and what was sent to be retained
    shows it; with 3.1.1 what was retained before comes, and shows it. A broker that ends the connection where others
    deny is asked again after five minutes: until then the connection is for what is sent.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._takers: dict[str, Callable[[Received], None]] = {}
        self._kept: frozenset[str] = frozenset()
        self._asked: dict[int, str] = {}
        self._subscribed: set[str] = set()
        self._denied: set[str] = set()
        self._ended, self._again_s = 0, float("-inf")

    def listen(self, topic: str, take: Callable[[Received], None], *, kept: bool = False) -> None:
        """Have what comes on `topic` handed to `take`; `kept`: also what is retained. From any thread."""
        self._kept |= {topic} if kept else set()
        self._takers = {**self._takers, topic: take}

    def begin(self, client: Client, now_s: float) -> None:
        """Hear `client`, whose connection is new: nothing is subscribed to yet."""
        if self._asked:
            self._ended += 1
            if self._ended >= _ENDED:
                self._again_s = now_s + _REST_S
                self._tell_ended(sorted(self._asked.values()))
        self._asked, self._subscribed = {}, set()
        client.on_message, client.on_subscribe = self._on_message, self._on_subscribe

    def _tell_ended(self, topics: list[str]) -> None:
        level = logging.ERROR if self._ended == _ENDED else logging.DEBUG
        fix = f"let this login read {', '.join(topics)}; until then nothing that is sent there arrives"
        log.log(level, "broker %s ends the connection when it is asked for topics; %s", self._where, fix)

    def subscribe(self, client: Client, now_s: float, *, new: bool) -> None:
        """Ask the broker for the topics that it was not asked for on this connection; `new`: it is of MQTT 5."""
        if now_s < self._again_s:
            return
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
        if not self._asked:
            self._ended = 0
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
