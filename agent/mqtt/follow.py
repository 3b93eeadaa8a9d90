"""A subscriber that misses nothing the broker keeps for it: QoS 1, a session that outlives connections."""

from __future__ import annotations

import logging
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.backoff import Backoff
from agent.errors import NotPermitted, ServiceAway
from agent.mqtt import reasons
from agent.mqtt.client import V5, V311, make_client, tls_context
from agent.mqtt.options import fix_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paho.mqtt.client import MQTTMessage

    from agent.mqtt.options import MqttOptions

log = logging.getLogger(__name__)

_QOS = 1
_KEPT_S = 7 * 24 * 3600
_POLL_S = 0.25
_GOOD = {MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN}


class Follower:
    """Subscribes to `filters` and hands over each message before the broker is told that it arrived.

    Without a client id in `options` the broker keeps what comes while the connection is away; with one, also what
    comes while this program is, for up to a week. What `deliver` raises ends `run`, the message unacknowledged.
    """

    def __init__(
        self, options: MqttOptions, filters: Sequence[str], deliver: Callable[[MQTTMessage], None]
    ) -> None:
        self._lasting = bool(options.client_id)
        self._options = (
            options if self._lasting else replace(options, client_id=f"edge-events-{uuid4().hex[:12]}")
        )
        self._filters, self._deliver = filters, deliver
        self._protocol = V5 if options.protocol == "auto" else V311
        self._client = make_client(
            self._options,
            protocol=self._protocol,
            tls=tls_context(options),
            clean_session=None if self._protocol is V5 else False,
        )
        self._client.on_connect, self._client.on_subscribe = self._on_connect, self._on_subscribe
        self._client.on_message = lambda _client, _data, message: deliver(message)
        self._backoff = Backoff(first_s=1.0, max_s=30.0, rng=random.Random(), least=0.5)  # noqa: S311 - jitter
        self._ever, self._deadline_s = False, 0.0
        self._error = self._refused = ""

    def run(self, stopping: Callable[[], bool]) -> None:
        """Follow until `stopping()`, which is asked a few times a second.

        Raises ServiceAway when there is no first connection, NotPermitted when login or subscription is refused.
        """
        try:
            while not stopping():
                self._connect()
                while not stopping() and not self._silent() and self._client.loop(_POLL_S) in _GOOD:
                    self._check()
                self._check()
                if not stopping():
                    self._lose("no CONNACK" if self._silent() else "connection lost", stopping)
        finally:
            self._leave()

    def _connect(self) -> None:
        more: dict[str, Any] = {}
        if self._protocol is V5:
            more = {"clean_start": False, "properties": _kept(_KEPT_S, PacketTypes.CONNECT)}
        self._deadline_s = time.monotonic() + self._options.connect_timeout_s
        try:
            self._client.connect(self._options.host, self._options.port, self._options.keepalive_s, **more)
        except (OSError, ValueError) as fault:
            self._error = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__

    def _silent(self) -> bool:
        """Return whether the broker took the connection and did not say more in time."""
        return not self._client.is_connected() and time.monotonic() >= self._deadline_s

    def _check(self) -> None:
        """Raise what can't be mended by another try."""
        if self._refused:
            raise NotPermitted(
                f"broker {self._options.where}", seen=self._refused, fix=fix_for(self._refused)
            )

    def _lose(self, why: str, stopping: Callable[[], bool]) -> None:
        """Wait for the next try; give up when there never was a connection."""
        why = self._error or why
        if not self._ever:
            raise ServiceAway(f"broker {self._options.where}", seen=why, fix=fix_for(why))
        wait_s = self._backoff.next_s()
        log.warning("broker %s: %s; trying again", self._options.where, why)
        end_s = time.monotonic() + wait_s
        while not stopping() and time.monotonic() < end_s:
            time.sleep(min(_POLL_S, wait_s))

    def _leave(self) -> None:
        """Say goodbye; a session that is not to last ends with it."""
        if not self._client.is_connected():
            return
        kept_s = _KEPT_S if self._lasting else 0
        kept = _kept(kept_s, PacketTypes.DISCONNECT) if self._protocol is V5 else None
        self._client.disconnect(properties=kept)
        self._client.loop(_POLL_S)

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _given: Any) -> None:
        if reason.value != reasons.SUCCESS:
            self._error = f"refused: {reason}"
            self._refused = self._error if reason.value in reasons.LOGIN_REFUSED else ""
            return
        if self._ever:
            log.warning("broker %s: connected again", self._options.where)
        self._ever, self._error = True, ""
        self._backoff.reset()
        self._client.subscribe([(each, self._subscription()) for each in self._filters])

    def _subscription(self) -> Any:
        """Return QoS 1; with MQTT 5 retained messages come with a new subscription only."""
        if self._protocol is V311:
            return _QOS
        return SubscribeOptions(qos=_QOS, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)

    def _on_subscribe(self, _client: Any, _data: Any, _mid: Any, codes: Any, _given: Any) -> None:
        if any(code.is_failure for code in codes):
            self._refused = f"not authorised to read {', '.join(self._filters)}"


def _kept(seconds: int, packet: int) -> Properties:
    """Return the properties of a CONNECT or DISCONNECT that have the broker keep the session for so long."""
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = seconds
    return properties
