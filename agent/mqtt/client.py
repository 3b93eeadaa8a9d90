"""One paho-mqtt client for one connection, driven by its user's own loop; TLS that is checked, never optional."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Literal, cast

from paho.mqtt.client import Client as PahoClient
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from agent.errors import BadConfig

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from agent.mqtt.options import MqttOptions

V5, V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311
MAX_RECEIVED_BYTES = 1 << 20
"""What a device takes: a broker of MQTT 5 passes nothing larger on, at one of 3.1.1 the connection is given up."""


class Client(PahoClient):
    """paho's client, but for three things.

    `on_answer(client, packet id, reason code)` gets every PUBACK as it came. paho drops the ones it does not wait for
    without a word, and takes a reason code that the standard does not list for a PUBACK for a broken connection:
    mosquitto sends 0x95 for what is over its `message_size_limit`, so that one message would end every connection.

    A TLS handshake that fails closes its socket, and is never tried without the host's name.

    Of a packet that is larger than `max_received_bytes` no more than its length is read: the connection is `flooded`,
    and over.
    """

    on_answer: Callable[[PahoClient, int, int], None] | None = None
    max_received_bytes = 256 << 20
    """As many as MQTT can tell."""
    flooded = False

    def _sock_recv(self, bufsize: int) -> bytes:
        if bufsize > self.max_received_bytes:
            self.flooded = True
            raise ConnectionAbortedError(f"a packet of {bufsize} bytes")
        return super()._sock_recv(bufsize)

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        context = cast("ssl.SSLContext", self._ssl_context)
        sock = context.wrap_socket(tcp_sock, server_hostname=self.host, do_handshake_on_connect=False)
        try:
            sock.settimeout(self.connect_timeout)
            sock.do_handshake()
        except BaseException:
            sock.close()
            raise
        return sock

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        if cmd == "PUBACK" and len(packet) >= 2:
            if self.on_answer is not None:
                self.on_answer(self, int.from_bytes(packet[:2], "big"), packet[2] if len(packet) > 2 else 0)
            self._in_packet["packet"] = packet[:2]  # for paho's own books: answered, and no more
        return super()._handle_pubackcomp(cmd)


def make_client(
    options: MqttOptions,
    *,
    protocol: MQTTProtocolVersion,
    tls: ssl.SSLContext | None,
    clean_session: bool | None = None,
) -> Client:
    """Return a client that is not connected yet; `tls` comes from `tls_context`."""
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=options.client_id,
        protocol=protocol,
        clean_session=clean_session,
        reconnect_on_failure=False,
    )
    client.connect_timeout = options.connect_timeout_s
    if options.username is not None:
        client.username_pw_set(options.username, options.password)
    if tls is not None:
        client.tls_set_context(tls)
    return client


def tls_context(options: MqttOptions) -> ssl.SSLContext | None:
    """Return a context that checks chain and host name, TLS 1.2 or later; None where TLS is not asked for.

    Raises BadConfig when its files can't be used.
    """
    if not options.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if options.cert_file is not None:
            context.load_cert_chain(options.cert_file, options.key_file, password=_refuse)
    except (OSError, _Encrypted) as fault:
        files = ", ".join(str(f) for f in (options.ca_file, options.cert_file, options.key_file) if f)
        fix = "give PEM files that this user can read, the key without a passphrase and of this certificate"
        raise BadConfig(f"TLS files {files}", seen=fault, fix=fix) from fault
    return context


class _Encrypted(Exception):
    """A key that asks for a passphrase: nobody is there to type it."""


def _refuse(*_: Any) -> str:
    raise _Encrypted("the key has a passphrase")
