"""The way to an MQTT broker and back: paho-mqtt driven by the publisher's own loop, never by a thread of paho's.

MQTT 5 first, because only its PUBACK tells that a publish was refused; 3.1.1 where a broker knows no other.
"""

from __future__ import annotations

import logging
import os
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.mqtt import ending, loop, reasons
from agent.mqtt.causes import Causes
from agent.mqtt.client import tls_context
from agent.mqtt.connecting import Limits, client_with_will, connect
from agent.mqtt.protocols import Protocols
from agent.mqtt.receiving import Receiving
from agent.mqtt.reconnecting import Reconnecting
from agent.mqtt.sending import Sending
from agent.transport import Link
from agent.waker import Waker

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.client import Client as PahoClient
    from paho.mqtt.client import ConnectFlags, DisconnectFlags
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

    from agent.mqtt.client import Client
    from agent.mqtt.ending import Ending
    from agent.mqtt.options import MqttOptions
    from agent.transport import Message, Presence, Received, Report

log = logging.getLogger(__name__)

_ANSWER_S = 60.0


class MqttTransport:
    """A Transport over one broker connection at a time; each is a new paho client and a clean start.

    Raises BadConfig when certificates can't be used.
    """

    def __init__(
        self,
        options: MqttOptions,
        *,
        presence: Presence | None = None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not options.client_id and presence is not None:
            # The same name every time: a broker ends the old connection, with its will, before the birth.
            options = replace(options, client_id=presence.topic.rpartition("/")[0])
        self._options, self._presence, self._clock = options, presence, clock
        self._again = Reconnecting(options, rng=rng or random.Random())  # noqa: S311 - jitter, not a secret
        self._tls = tls_context(options)
        self._client: Client | None = None
        self._protocols = Protocols(only_old=options.protocol != "auto")
        base = presence.topic.rpartition("/")[0] if presence is not None else ""
        self._causes = Causes(options, base)
        self._said_old = False
        self._session, self._connected = 0, False
        limits = Limits.of(None, options)
        self._sending = Sending(options.where, limits, self._again, self._causes, clock)
        self._receiving = Receiving(options.where, clock)
        self._next_try_s = self._deadline_s = clock()
        self._waker = Waker()

    @property
    def link(self) -> Link:
        """How the connection stands."""
        return Link(
            self._connected,
            self._session,
            str(self._protocols),
            self._causes.last,
            self._sending.strays,
            self._receiving.unread,
        )

    @property
    def room(self) -> int:
        """How many more messages may be under way: the broker's window, at most `max_in_flight`."""
        return self._sending.room

    def send(self, message: Message) -> None:
        """Hand `message` to the broker."""
        self._sending.send(message)

    def listen(self, topic: str, take: Callable[[Received], None], *, kept: bool = False) -> None:
        """Have what comes on `topic` handed to `take`, as Transport says. From any thread."""
        self._receiving.listen(topic, take, kept=kept)
        self._waker.wake()

    def poll(self, timeout_s: float) -> list[Report]:
        """Do what is due on the connection; return what became of messages, within `timeout_s`."""
        now_s = self._clock()
        if self._client is None and now_s >= self._next_try_s:
            self._connect()
        elif self._client is not None and not self._connected and now_s >= self._deadline_s:
            self._drop(ending.no_connack(self._options.connect_timeout_s))
        elif self._sending.oldest_s(now_s) >= _ANSWER_S:
            self._drop(ending.no_puback(_ANSWER_S))
        if not self._sending.reported:
            self._wait(timeout_s)
        self._work()
        return self._sending.take_reports()

    def wake(self) -> None:
        """End a wait in `poll`, from any thread."""
        self._waker.wake()

    def reset(self) -> None:
        """Give the connection up and forget what is under way."""
        self._drop(ending.GIVEN_UP)
        self._sending.take_reports()

    def close(self) -> None:
        """Say DISCONNECT and close."""
        self._part()
        self._waker.close()

    def _part(self) -> None:
        """End the connection with DISCONNECT, so that the broker keeps the will to itself."""
        client = self._client
        sock = client.socket() if client is not None else None
        if client is not None and sock is not None and self._connected:
            client.on_disconnect = None
            handle = os.dup(sock.fileno())  # paho closes its own as soon as DISCONNECT is written
            client.disconnect()
            end_s = time.monotonic() + 1.0
            while client.want_write() and client.socket() is not None and time.monotonic() < end_s:
                self._wait(0.1)
                client.loop_write()
            loop.read_out(handle, end_s)
        self._forget_connection()

    # -- the loop --

    def _wait(self, timeout_s: float) -> None:
        """Sleep until the socket, `wake` or the clock has something to do."""
        loop.wait(self._client, self._waker, min(timeout_s, self._until_due_s()))

    def _until_due_s(self) -> float:
        """Return the time to the next try, the end of the wait for CONNACK, or a look at the keep-alive."""
        if self._client is None:
            return self._next_try_s - self._clock()
        return 1.0 if self._connected else min(1.0, self._deadline_s - self._clock())

    def _work(self) -> None:
        """Read, write and keep alive; subscribe to what is new."""
        client = self._client
        if client is None:
            return
        if self._connected:
            self._receiving.subscribe(client, self._clock(), new=self._protocols.new)
        stands = loop.work(client, lambda: self._client is client)
        if not stands and self._client is client:
            self._drop(ending.CLOSED)
        if self._receiving.flooded:
            self._part()
            self._next_try_s = self._clock()

    def _connect(self) -> None:
        """Begin a connection; blocks for name lookup, TCP and TLS, the last two within `connect_timeout_s`."""
        client = client_with_will(self._options, self._protocols.current, self._tls, self._presence)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_answer = self._sending.answered
        self._receiving.begin(client, self._clock())
        self._client = client
        self._deadline_s = self._clock() + self._options.connect_timeout_s
        try:
            connect(client, self._options, self._protocols.current)
        except (OSError, ValueError) as fault:
            self._drop(ending.failed(fault))

    # -- what paho tells --

    def _on_connect(
        self,
        client: PahoClient,
        _data: Any,
        _flags: ConnectFlags,
        reason: ReasonCode,
        given: Properties | None,
    ) -> None:
        if client is not self._client or self._client is None:
            return
        if reason.value != reasons.SUCCESS:
            self._refused(reason)
            return
        self._connected = True
        self._session += 1
        self._again.stands(self._clock())
        self._sending.accepted(self._client, Limits.of(given, self._options), new=self._protocols.new)
        self._causes.over(f"connected, {self._protocols}")
        if not self._protocols.new and not self._said_old:
            self._said_old = True
            log.warning(
                "broker %s speaks MQTT 3.1.1 only: a publish that its access list denies looks delivered",
                self._options.where,
            )

    def _refused(self, reason: ReasonCode) -> None:
        if reason.value == reasons.UNSUPPORTED_PROTOCOL and self._protocols.refused():
            self._forget_connection()
            self._next_try_s = self._clock()
            log.info("broker %s refuses MQTT 5: trying 3.1.1", self._options.where)
            return
        self._drop(ending.refused(reason))

    def _on_disconnect(
        self,
        client: PahoClient,
        _data: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        _given: Properties | None,
    ) -> None:
        if client is not self._client:
            return
        if self._client.flooded:
            self._drop(ending.FLOODED)
        elif flags.is_disconnect_packet_from_server:
            self._drop(ending.disconnected(reason, self._options.client_id, stood=self._connected))
        else:
            now_s = self._clock()
            shared = self._connected and self._again.looks_shared(now_s)
            why = self._causes.of_lost(str(reason), now_s, shared=shared)
            self._drop(ending.lost(why, stood=self._connected))

    # -- the end of a connection --

    def _drop(self, end: Ending) -> None:
        """Give the connection up, report what was under way as lost, and say when to try again."""
        stood = self._connected
        if end.silent:
            self._protocols.silent()
        else:
            self._protocols.begin()
        if end.too_large:
            self._sending.reject_largest(end.why)
        now_s = self._clock()
        wait_s = self._again.lost(now_s, contested=end.contested, login_refused=end.login_refused)
        self._forget_connection()
        self._next_try_s = now_s + wait_s
        self._causes.tell(end.why, now_s, known=stood or end.contested)
        log.debug("broker %s: next try in %.1f s", self._options.where, wait_s)

    def _forget_connection(self) -> None:
        client, self._client = self._client, None
        self._connected = False
        self._sending.lost()
        sock = client.socket() if client is not None else None
        if sock is not None:
            sock.close()
