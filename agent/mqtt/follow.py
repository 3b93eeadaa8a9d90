"""A subscriber that misses nothing the broker keeps for it: QoS 1, a session that outlives connections."""

from __future__ import annotations

import contextlib
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

from agent.errors import NotPermitted, ServiceAway
from agent.mqtt import reasons
from agent.mqtt.client import V5, V311, make_client, tls_context
from agent.mqtt.options import fix_for
from agent.mqtt.reconnecting import Reconnecting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paho.mqtt.client import MQTTMessage

    from agent.mqtt.client import Client
    from agent.mqtt.options import MqttOptions

log = logging.getLogger(__name__)

_QOS = 1
_KEPT_S = 7 * 24 * 3600
_POLL_S = 0.25
_MOST_S = 30.0
_GOOD = {MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN}


class _TooLate(Exception):
    """A message that came when it was to stop: it is not acknowledged."""


class Follower:
    """Subscribes to `filters` and hands over each message before the broker is told that it arrived.

    Without a client id in `options` the broker keeps what comes while the connection is away; with one, also what
    comes while this program is, for up to a week. What `deliver` raises ends `run`, the message unacknowledged; what
    comes when it is to stop is left to the broker. `on_granted` may publish at each connection, as soon as what it
    asks for can come.
    `granted_s`: when the broker granted a subscription that brings all that is retained, on the monotonic clock;
    None before, and where a session goes on.
    """

    def __init__(
        self,
        options: MqttOptions,
        filters: Sequence[str],
        deliver: Callable[[MQTTMessage], None],
        *,
        on_granted: Callable[[Client], None] | None = None,
    ) -> None:
        self._lasting = bool(options.client_id)
        self._options = (
            options if self._lasting else replace(options, client_id=f"edge-events-{uuid4().hex[:12]}")
        )
        self._filters, self._deliver, self._on_granted = filters, deliver, on_granted
        self._protocol = V5 if options.protocol == "auto" else V311
        self._client = make_client(
            self._options,
            protocol=self._protocol,
            tls=tls_context(options),
            clean_session=None if self._protocol is V5 else False,
        )
        self._client.on_connect, self._client.on_subscribe = self._on_connect, self._on_subscribe
        self._client.on_message, self._client.on_disconnect = self._on_message, self._on_disconnect
        often = replace(self._options, backoff_max_s=_MOST_S)
        self._again = Reconnecting(often, rng=random.Random())  # noqa: S311 - jitter, not a secret
        self._ever, self._deadline_s = False, 0.0
        self._error = self._refused = self._fix = ""
        self._goes_on = False
        self._stopping: Callable[[], bool] = lambda: False
        self.granted_s: float | None = None

    def run(self, stopping: Callable[[], bool]) -> None:
        """Follow until `stopping()`, which is asked a few times a second.

        Raises ServiceAway when there is no first connection, NotPermitted when login or subscription is refused.
        """
        self._stopping = stopping
        try:
            while not stopping():
                self._connect()
                while not stopping() and not self._silent() and self._client.loop(_POLL_S) in _GOOD:
                    self._check()
                self._check()
                if not stopping():
                    self._lose("no CONNACK" if self._silent() else "connection lost", stopping)
        except _TooLate:
            pass
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
            fix = self._fix or fix_for(self._refused)
            raise NotPermitted(f"broker {self._options.where}", seen=self._refused, fix=fix)

    def _lose(self, why: str, stopping: Callable[[], bool]) -> None:
        """Wait for the next try; give up when there never was a connection."""
        why = self._error or why
        if not self._ever:
            raise ServiceAway(f"broker {self._options.where}", seen=why, fix=fix_for(why))
        shared = self._lasting and self._again.looks_shared(time.monotonic())
        if shared and self._shared() not in why:
            why = f"{why}, soon after each connect; {self._shared()}"
        wait_s = self._again.lost(time.monotonic())
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
        with contextlib.suppress(_TooLate):
            self._client.loop(_POLL_S)

    def _shared(self) -> str:
        return f"if another program uses the client id {self._options.client_id}, give one of them another"

    def _on_message(self, _client: Any, _data: Any, message: MQTTMessage) -> None:
        if self._stopping():
            raise _TooLate
        self._deliver(message)
        self._again.confirmed()

    def _on_disconnect(self, _client: Any, _data: Any, flags: Any, reason: Any, _given: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            self._error = f"the broker disconnected: {reason}"
            if reason.value == reasons.TAKEN_OVER:
                self._error = f"another client took the connection; {self._shared()}"

    def _on_connect(self, _client: Any, _data: Any, flags: Any, reason: Any, _given: Any) -> None:
        if reason.value != reasons.SUCCESS:
            self._error = f"refused: {reason}"
            self._refused = self._error if reason.value in reasons.LOGIN_REFUSED else ""
            return
        if self._ever:
            log.warning("broker %s: connected again", self._options.where)
        self._ever, self._error = True, ""
        self._again.stands(time.monotonic())
        self._goes_on = flags.session_present and self._protocol is V5
        self._client.subscribe([(each, self._subscription()) for each in self._filters])

    def _subscription(self) -> Any:
        """Return QoS 1; with MQTT 5 retained messages come with a new subscription only."""
        if self._protocol is V311:
            return _QOS
        return SubscribeOptions(qos=_QOS, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)

    def _on_subscribe(self, _client: Any, _data: Any, _mid: Any, codes: Any, _given: Any) -> None:
        if any(code.is_failure for code in codes):
            self._refused, self._fix = (
                "not authorised to read",
                f"let this login read {', '.join(self._filters)}",
            )
            return
        if not self._goes_on:
            self.granted_s = self.granted_s or time.monotonic()
        if self._on_granted is not None:
            self._on_granted(self._client)


def _kept(seconds: int, packet: int) -> Properties:
    """Return the properties of a CONNECT or DISCONNECT that have the broker keep the session for so long."""
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = seconds
    return properties
