"""The way out to an MQTT broker: paho-mqtt driven by the publisher's own loop, never by a thread of paho's.

MQTT 5 first, because only its PUBACK tells that a publish was refused; 3.1.1 where a broker knows no other.
"""

from __future__ import annotations

import contextlib
import logging
import random
import select
import socket
import ssl
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.backoff import Backoff
from agent.broker import fix_for
from agent.errors import BadConfig
from agent.transport import Link, Message, Outcome, Presence, Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.client import ConnectFlags, DisconnectFlags
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

    from agent.broker import MqttOptions

log = logging.getLogger(__name__)

_V5, _V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311
_PROTOCOL_NAMES = {_V5: "5", _V311: "3.1.1"}
# Reason codes of MQTT 5, section 2.4.
_SUCCESS, _NO_SUBSCRIBERS, _NOT_AUTHORIZED, _QUOTA_EXCEEDED = 0x00, 0x10, 0x87, 0x97
_TAKEN_OVER, _TOO_LARGE = 0x8E, 0x95
_DEAD = {0x90, 0x95, 0x99}  # topic name invalid, packet too large, payload format invalid
_PROTOCOL_REFUSED = {0x84}
_LOGIN_REFUSED = {0x86, 0x87, 0x8A, 0x8C}
_PACKET_OVERHEAD_BYTES = 32
_SHORT = 3  # so many short connections in a row may be those of two clients with one name


class MqttTransport:
    """A Transport over one broker connection at a time; each is a new paho client and a clean start.

    Backoff begins anew only when a connection has lasted `stable_s` or has carried a whole window of
    confirmed messages: a broker that accepts, takes one and drops is not worth a try a second.
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
        rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._backoff = Backoff(first_s=options.backoff_first_s, max_s=options.backoff_max_s, rng=rng)
        self._tls = _tls_context(options) if options.tls else None
        self._client: Client | None = None
        self._first = _V5 if options.protocol == "auto" else _V311
        self._protocol = self._first
        self._said_old = False
        self._session, self._connected, self._error = 0, False, ""
        self._under_way: dict[int, Message] = {}
        self._reports: deque[Report] = deque()
        self._window, self._max_packet_bytes, self._retain_available = 0, 0, True
        self._confirmed = self._short = 0
        self._next_try_s = self._deadline_s = self._since_s = clock()
        self._wake_in, self._wake_out = socket.socketpair()
        for end in (self._wake_in, self._wake_out):
            end.setblocking(False)

    @property
    def link(self) -> Link:
        """How the connection stands."""
        return Link(self._connected, self._session, f"MQTT {_PROTOCOL_NAMES[self._protocol]}", self._error)

    @property
    def room(self) -> int:
        """How many more messages may be under way: the broker's window, at most `max_in_flight`."""
        return max(0, self._window - len(self._under_way)) if self._connected else 0

    def send(self, message: Message) -> None:
        """Hand `message` to the broker."""
        size_bytes = len(message.payload) + len(message.topic.encode()) + _PACKET_OVERHEAD_BYTES
        if size_bytes > self._max_packet_bytes > 0:
            detail = f"{size_bytes} bytes, the broker takes {self._max_packet_bytes}"
            self._reports.append(Report(message.key, Outcome.REJECTED, detail))
            return
        if self._client is None or not self._connected:
            self._reports.append(Report(message.key, Outcome.LOST))
            return
        retain = message.retain and self._retain_available
        try:
            info = self._client.publish(message.topic, message.payload, message.qos, retain)
        except ValueError as fault:
            self._reports.append(Report(message.key, Outcome.REJECTED, str(fault)))
            return
        if message.qos == 0:
            self._reports.append(Report(message.key, Outcome.DELIVERED))
        else:
            self._under_way[info.mid] = message

    def poll(self, timeout_s: float) -> list[Report]:
        """Do what is due on the connection; return what became of messages, within `timeout_s`."""
        now_s = self._clock()
        if self._client is None and now_s >= self._next_try_s:
            self._connect()
        elif self._client is not None and not self._connected and now_s >= self._deadline_s:
            limit = f"no CONNACK within {self._options.connect_timeout_s:g} s"
            self._drop(limit, next_protocol=self._other())
        if not self._reports:
            self._wait(timeout_s)
        self._work()
        reports = list(self._reports)
        self._reports.clear()
        return reports

    def wake(self) -> None:
        """End a wait in `poll`, from any thread."""
        with contextlib.suppress(BlockingIOError, OSError):
            self._wake_in.send(b"\0")

    def reset(self) -> None:
        """Give the connection up and forget what is under way."""
        self._drop("given up after a fault of this program")
        self._reports.clear()

    def close(self) -> None:
        """Say DISCONNECT, so that the broker keeps the will to itself, and close."""
        client = self._client
        if client is not None and self._connected:
            client.on_disconnect = None
            client.disconnect()
            end_s = time.monotonic() + 1.0
            while client.want_write() and client.socket() is not None and time.monotonic() < end_s:
                self._wait(0.1)
                client.loop_write()
        self._forget_connection()
        for end in (self._wake_in, self._wake_out):
            end.close()

    # -- the loop --

    def _wait(self, timeout_s: float) -> None:
        """Sleep until the socket, `wake` or the clock has something to do."""
        sock = self._client.socket() if self._client is not None else None
        readers: list[Any] = [self._wake_out]
        writers: list[Any] = []
        if self._client is not None and sock is not None:
            readers.append(sock)
            writers += [sock] if self._client.want_write() else []
            if isinstance(sock, ssl.SSLSocket) and sock.pending():
                timeout_s = 0.0
        timeout_s = min(timeout_s, self._until_due_s())
        poller = select.poll()
        for each in readers:
            poller.register(each, select.POLLIN | (select.POLLOUT if each in writers else 0))
        poller.poll(max(0.0, timeout_s) * 1e3)
        with contextlib.suppress(BlockingIOError):
            self._wake_out.recv(4096)

    def _until_due_s(self) -> float:
        """Return the time to the next try, the end of the wait for CONNACK, or a look at the keep-alive."""
        if self._client is None:
            return self._next_try_s - self._clock()
        return 1.0 if self._connected else min(1.0, self._deadline_s - self._clock())

    def _work(self) -> None:
        """Read, write and keep alive; paho tells by its callbacks what came of it."""
        client = self._client
        if client is None:
            return
        for step in (client.loop_read, client.loop_write, client.loop_misc):
            if self._client is client:
                step()
        if self._client is client and client.socket() is None:
            self._drop("the broker closed the connection")

    def _connect(self) -> None:
        """Begin a connection; blocks for name lookup, TCP and TLS, each within `connect_timeout_s`."""
        client = self._make_client()
        self._client = client
        self._deadline_s = self._clock() + self._options.connect_timeout_s
        try:
            client.connect(self._options.host, self._options.port, self._options.keepalive_s, **self._clean())
        except (OSError, ValueError) as fault:
            self._drop(getattr(fault, "strerror", None) or str(fault) or type(fault).__name__)

    def _clean(self) -> dict[str, Any]:
        return {"clean_start": True} if self._protocol is _V5 else {}

    def _make_client(self) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._options.client_id,
            protocol=self._protocol,
            reconnect_on_failure=False,
        )
        client.connect_timeout = self._options.connect_timeout_s
        client.max_inflight_messages = 0xFFFF  # `room` is the bound: paho's queue is never used
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_publish = self._on_publish
        client.on_socket_register_write = lambda *_: None  # paho then leaves all writing to this loop
        if self._options.username is not None:
            client.username_pw_set(self._options.username, self._options.password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        if self._presence is not None:
            client.will_set(self._presence.topic, self._presence.will, qos=1, retain=True)
        return client

    # -- what paho tells --

    def _on_connect(
        self, client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, given: Properties | None
    ) -> None:
        if client is not self._client:
            return
        if reason.value != _SUCCESS:
            self._refused(reason)
            return
        self._connected, self._error = True, ""
        self._session += 1
        self._since_s, self._confirmed = self._clock(), 0
        limits: object = given  # None with 3.1.1
        self._window = min(self._options.max_in_flight, getattr(limits, "ReceiveMaximum", 0xFFFF))
        self._max_packet_bytes = getattr(limits, "MaximumPacketSize", 0)
        self._retain_available = bool(getattr(limits, "RetainAvailable", 1))
        log.info("broker %s: connected, MQTT %s", self._options.where, _PROTOCOL_NAMES[self._protocol])
        if self._protocol is _V311 and not self._said_old:
            self._said_old = True
            log.warning(
                "broker %s speaks MQTT 3.1.1 only: a publish that its access list denies looks delivered",
                self._options.where,
            )

    def _refused(self, reason: ReasonCode) -> None:
        if self._protocol is _V5 and reason.value in _PROTOCOL_REFUSED:
            self._forget_connection()
            self._protocol, self._next_try_s = _V311, self._clock()
            log.info("broker %s refuses MQTT 5: trying 3.1.1", self._options.where)
            return
        self._drop(f"refused: {reason}")
        if reason.value in _LOGIN_REFUSED:
            wait_s = self._next_try_s - self._clock()
            self._next_try_s = self._clock() + max(wait_s, self._options.login_retry_s)

    def _on_disconnect(
        self,
        client: Client,
        _data: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        _given: Properties | None,
    ) -> None:
        if client is not self._client:
            return
        other = None if self._connected else self._other()
        if not flags.is_disconnect_packet_from_server:
            self._drop(self._how_lost(reason), next_protocol=other)
        elif reason.value == _TAKEN_OVER:
            why = f"another client uses the same device name ({self._options.client_id})"
            self._drop(f"{why} and took the connection: give one of them another device name", contested=True)
        else:
            if reason.value == _TOO_LARGE:
                self._reject_largest(f"the broker disconnected: {reason}")
            self._drop(f"the broker disconnected: {reason}", next_protocol=other)

    def _how_lost(self, reason: ReasonCode) -> str:
        """Return the words for a connection that ended without a DISCONNECT.

        A broker that gives the connection to another client of the same name need not say so: mosquitto 2.0
        and MQTT 3.1.1 do not. It shows by one short connection after the other.
        """
        lost = f"connection lost: {reason}"
        if not self._connected or self._lasted() or self._short + 1 < _SHORT:
            return lost
        return (
            f"{lost}, soon after each connect; if another client uses the same device name"
            f" ({self._options.client_id}), give one of them another device name"
        )

    def _reject_largest(self, detail: str) -> None:
        """Give up the largest message under way: the one that the broker did not want to see again."""
        if self._under_way:
            mid = max(self._under_way, key=lambda each: len(self._under_way[each].payload))
            self._reports.append(Report(self._under_way.pop(mid).key, Outcome.REJECTED, detail))

    def _on_publish(
        self, client: Client, _data: Any, mid: int, reason: ReasonCode, _given: Properties | None
    ) -> None:
        message = self._under_way.pop(mid, None) if client is self._client else None
        if message is None:
            return
        outcome = _outcome(reason.value)
        if outcome is Outcome.DELIVERED:
            self._confirmed += 1
        self._reports.append(Report(message.key, outcome, f"0x{reason.value:02x} {reason}"))

    # -- the end of a connection --

    def _drop(
        self, why: str, *, next_protocol: MQTTProtocolVersion | None = None, contested: bool = False
    ) -> None:
        """Give the connection up, report what was under way as lost, and say when to try again.

        A broker that gives no CONNACK may not know MQTT 5 (amqtt is silent): the next try is with the other.
        A connection that stood begins with 5 again, so that a restarting broker is not taken for an old one.
        One that is `contested` counts as failed, however long it stood: two that take it from each other rest.
        """
        stood, stable = self._connected, self._lasted()
        if stood and not contested and (stable or self._confirmed >= self._options.max_in_flight):
            self._backoff.reset()
        if stood:
            self._short = 0 if stable else self._short + 1
        self._protocol = next_protocol or self._first
        wait_s = self._backoff.next_s()
        self._forget_connection()
        self._next_try_s = self._clock() + wait_s
        if why != self._error:
            told = why if stood or contested else f"{why}; {fix_for(why)}"
            log.warning("broker %s: %s; messages are kept and sent later", self._options.where, told)
        log.debug("broker %s: next try in %.1f s", self._options.where, wait_s)
        self._error = why

    def _lasted(self) -> bool:
        """Return whether the connection that stands or stood lately counts as a stable one."""
        return self._clock() - self._since_s >= self._options.stable_s

    def _other(self) -> MQTTProtocolVersion:
        """Return the version to try after one that was met with silence."""
        return _V311 if self._protocol is _V5 else self._first

    def _forget_connection(self) -> None:
        client, self._client = self._client, None
        self._connected = False
        self._reports.extend(Report(m.key, Outcome.LOST) for m in self._under_way.values())
        self._under_way.clear()
        sock = client.socket() if client is not None else None
        if sock is not None:
            sock.close()


def _outcome(reason: int) -> Outcome:
    if reason in {_SUCCESS, _NO_SUBSCRIBERS}:
        return Outcome.DELIVERED
    if reason == _NOT_AUTHORIZED:
        return Outcome.DENIED
    if reason == _QUOTA_EXCEEDED:
        return Outcome.BUSY
    return Outcome.REJECTED if reason in _DEAD else Outcome.REFUSED


def _tls_context(options: MqttOptions) -> ssl.SSLContext:
    """Return a context that checks chain and host name, TLS 1.2 or later."""
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if options.cert_file is not None:
            context.load_cert_chain(options.cert_file, options.key_file)
    except OSError as fault:
        files = ", ".join(str(f) for f in (options.ca_file, options.cert_file, options.key_file) if f)
        raise BadConfig(
            f"TLS files {files}", seen=fault, fix="give PEM files that this user can read"
        ) from fault
    return context
