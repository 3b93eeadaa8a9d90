"""The beginning of a connection: what is told in CONNECT, and the limits that CONNACK brings."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.mqtt.client import MAX_RECEIVED_BYTES, V5, make_client

if TYPE_CHECKING:
    import ssl

    from paho.mqtt.enums import MQTTProtocolVersion

    from agent.mqtt.client import Client
    from agent.mqtt.options import MqttOptions
    from agent.transport import Presence


@dataclass(frozen=True, slots=True)
class Limits:
    """What a broker takes: `window` messages under way, packets of `max_packet_bytes` (0: any), retained ones."""

    window: int
    max_packet_bytes: int
    retains: bool

    @staticmethod
    def of(given: object, options: MqttOptions) -> Limits:
        """Return the limits that the properties of a CONNACK tell; 3.1.1 has none (None)."""
        return Limits(
            min(options.max_in_flight, getattr(given, "ReceiveMaximum", 0xFFFF)),
            getattr(given, "MaximumPacketSize", 0),
            bool(getattr(given, "RetainAvailable", 1)),
        )


def client_with_will(
    options: MqttOptions, protocol: MQTTProtocolVersion, tls: ssl.SSLContext | None, presence: Presence | None
) -> Client:
    """Return a client whose writing is left to the transport's loop, and which leaves the will of `presence`."""
    client = make_client(options, protocol=protocol, tls=tls)
    client.max_received_bytes = MAX_RECEIVED_BYTES
    client.max_inflight_messages = 0xFFFF  # the transport's `room` is the bound: paho's queue is never used
    client.on_socket_register_write = lambda *_: None
    if presence is not None:
        client.will_set(presence.topic, presence.will, qos=1, retain=True)
    return client


def connect(client: Client, options: MqttOptions, protocol: MQTTProtocolVersion) -> None:
    """Connect and send CONNECT; blocks for name lookup, TCP and TLS. Raises OSError, ValueError."""
    clean: dict[str, Any] = {}
    if protocol is V5:
        limits = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        limits.MaximumPacketSize = MAX_RECEIVED_BYTES
        clean = {"clean_start": True, "properties": limits}
    client.connect(options.host, options.port, options.keepalive_s, **clean)
    if isinstance(sock := client.socket(), socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
