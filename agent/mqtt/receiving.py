"""What a client listens to on its broker, and who takes what comes; a subscription that is denied is told once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.pace import Pace
from agent.transport import Received

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.client import MQTTMessage

    from agent.mqtt.client import Client

log = logging.getLogger(__name__)

_QOS = 1
_ENDED = 3  # so many connections in a row may end before a subscription is answered
_REST_S = 300.0
FLOOD_HZ, FLOOD = 50.0, 500
"""What comes faster on one topic, after so many at once, is a flood: to read it would hold up what is sent."""


class Receiving:
    """Topics without wildcards, each with who takes its messages; subscribed to anew on each connection.

    With MQTT 5 nothing retained comes with a subscription, unless it is asked for, and what was sent to be retained
    shows it; with 3.1.1 what was retained before comes, and shows it. A broker that ends the connection where others
    deny is asked again after five minutes: until then the connection is for what is sent. So long is a topic left
    alone that was `flooded`: a new connection is needed then, for what is on its way on this one stands before
    all answers.
    """

    def __init__(self, where: str, clock: Callable[[], float]) -> None:
        self._where, self._clock = where, clock
        self._takers: dict[str, Callable[[Received], None]] = {}
        self._kept: frozenset[str] = frozenset()
        self._asked: dict[int, str] = {}
        self._subscribed: set[str] = set()
        self._denied: set[str] = set()
        self._ended, self._again_s = 0, float("-inf")
        self._paces: dict[str, Pace] = {}
        self._flooded: dict[str, float] = {}

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
        self._flooded = {topic: end_s for topic, end_s in self._flooded.items() if now_s < end_s}
        for topic in self._takers.keys() - self._subscribed - self._flooded.keys():
            if new:
                _, mid = client.subscribe(topic, options=_options(kept=topic in self._kept))
            else:
                _, mid = client.subscribe(topic, _QOS)
            self._subscribed.add(topic)
            if mid is not None:
                self._asked[mid] = topic

    @property
    def flooded(self) -> bool:
        """Whether more comes on this connection than can be read beside what is sent."""
        return not self._flooded.keys().isdisjoint(self._subscribed)

    @property
    def unread(self) -> tuple[str, ...]:
        """The topics that are left alone after a flood; from any thread."""
        now_s = self._clock()
        return tuple(sorted(topic for topic, end_s in self._flooded.items() if now_s < end_s))

    def _floods(self, topic: str) -> bool:
        """Return whether a message on `topic` is one too many; the first of a flood is told."""
        now_s = self._clock()
        pace = self._paces.setdefault(topic, Pace(FLOOD_HZ, burst=FLOOD))
        if topic in self._flooded or not pace.room(now_s):
            if topic not in self._flooded:
                self._flooded = {**self._flooded, topic: now_s + _REST_S}
                told = f"{topic} is flooded, by more than {FLOOD} messages at once or {FLOOD_HZ:g} a second"
                fix = "look who sends them at the broker"
                log.error("broker %s: %s: it is not read for %g s; %s", self._where, told, _REST_S, fix)
            return True
        pace.take(1)
        return False

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
        if (take := self._takers.get(topic)) is not None and not self._floods(topic):
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
