"""A reader of topics that asks nothing of the broker: QoS 0, no session, what is retained anew at each connect."""

from __future__ import annotations

import logging
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from agent.errors import NotPermitted, ServiceAway
from agent.mqtt import reasons
from agent.mqtt.client import V5, V311, make_client, tls_context
from agent.mqtt.connecting import connect
from agent.mqtt.loop import wait, work
from agent.mqtt.options import fix_for
from agent.mqtt.reconnecting import Reconnecting
from agent.waker import Waker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paho.mqtt.client import MQTTMessage

    from agent.mqtt.client import Client
    from agent.mqtt.options import MqttOptions

log = logging.getLogger(__name__)

_MOST_S = 30.0


class Hearing:
    """Hands what comes on `filters` to `deliver`, from `poll`; connects again, ever more rarely, when it must.

    Raises BadConfig when certificates can't be used. `poll` raises ServiceAway when the first connection does not come
    about, NotPermitted when login or subscription are refused.
    """

    def __init__(
        self, options: MqttOptions, filters: Sequence[str], deliver: Callable[[MQTTMessage], None]
    ) -> None:
        own = f"edge-watch-{uuid4().hex[:12]}"
        self._options = replace(options, client_id=own, backoff_max_s=_MOST_S)
        self._filters, self._deliver = filters, deliver
        self._protocol = V5 if options.protocol == "auto" else V311
        self._tls = tls_context(options)
        self._again = Reconnecting(self._options, rng=random.Random())  # noqa: S311 - jitter, not a secret
        self._client: Client | None = None
        self._waker = Waker()
        self._next_s = self._deadline_s = 0.0
        self._ever = False
        self._error = self._refused = self._fix = ""
        self.granted = False

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._client is not None and self._client.is_connected()

    def poll(self, timeout_s: float) -> None:
        """Wait for something to come, for `timeout_s` at most, and hand it over."""
        now_s = time.monotonic()
        if self._client is None:
            if now_s >= self._next_s:
                self._connect(now_s)
            else:
                timeout_s = min(timeout_s, self._next_s - now_s)
        wait(self._client, self._waker, timeout_s)
        if (client := self._client) is not None:
            alive = work(client, lambda: client.socket() is not None)
            silent = not client.is_connected() and time.monotonic() >= self._deadline_s
            if not alive or silent:
                self._lose("no CONNACK" if silent else "connection lost")
        if self._refused:
            fix = self._fix or fix_for(self._refused)
            raise NotPermitted(f"broker {self._options.where}", seen=self._refused, fix=fix)

    def close(self) -> None:
        """End the connection."""
        if self._client is not None:
            self._client.disconnect()
        self._waker.close()

    def _connect(self, now_s: float) -> None:
        client = make_client(self._options, protocol=self._protocol, tls=self._tls)
        client.on_connect, client.on_subscribe = self._on_connect, self._on_subscribe
        client.on_message = lambda _client, _data, message: self._deliver(message)
        client.on_socket_register_write = lambda *_: None
        self._client, self._deadline_s = client, now_s + self._options.connect_timeout_s
        try:
            connect(client, self._options, self._protocol)
        except (OSError, ValueError) as fault:
            self._lose(getattr(fault, "strerror", None) or str(fault) or type(fault).__name__)

    def _lose(self, why: str) -> None:
        why, self._error = self._error or why, ""
        client, self._client = self._client, None
        if client is not None and (sock := client.socket()) is not None:
            sock.close()
        if self._refused:
            return
        if not self._ever:
            raise ServiceAway(f"broker {self._options.where}", seen=why, fix=fix_for(why))
        now_s = time.monotonic()
        self._next_s = now_s + self._again.lost(now_s)
        log.warning("broker %s: %s; trying again", self._options.where, why)

    def _on_connect(self, client: Any, _data: Any, _flags: Any, reason: Any, _given: Any) -> None:
        if reason.value != reasons.SUCCESS:
            self._error = f"refused: {reason}"
            self._refused = self._error if reason.value in reasons.LOGIN_REFUSED else ""
            return
        self._ever = True
        self._again.stands(time.monotonic())
        client.subscribe([(each, 0) for each in self._filters])

    def _on_subscribe(self, _client: Any, _data: Any, _mid: Any, codes: Any, _given: Any) -> None:
        self.granted = True
        if any(code.is_failure for code in codes):
            self._refused = "not authorised to read"
            self._fix = f"let this login read {', '.join(self._filters)}"
