"""Brokers for tests on free loopback ports: mosquitto, amqtt, and a fake one that does as it is told."""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from typing_extensions import Self

AMQTT = """
import asyncio, sys
from amqtt.broker import Broker
async def main():
    config = {"listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:" + sys.argv[1]}},
              "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}}
    await Broker(config).start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A broker in a process of its own, which can be killed and started again on the same port."""

    def __init__(self, command: list[str], port: int) -> None:
        self.command, self.port = command, port
        self.start()

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: _listens(self.port), HANGS_S, "the broker to listen")

    def kill(self) -> None:
        """Kill it at once."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        """Let it save its state and end."""
        self.process.terminate()
        self.process.wait(HANGS_S)


@contextlib.contextmanager
def mosquitto(
    folder: Path, *, port: int | None = None, settings: str = "allow_anonymous true", config: str = ""
) -> Iterator[Process]:
    """Run mosquitto with `settings`, or with all of `config`; skips the test where it is not installed."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        pytest.skip("mosquitto is not installed")
    port = port or free_port()
    path = folder / f"mosquitto-{port}.conf"
    path.write_text(config or f"listener {port} 127.0.0.1\nuser root\n{settings}\n")
    broker = Process([program, "-c", str(path)], port)
    try:
        yield broker
    finally:
        broker.kill()


@contextlib.contextmanager
def amqtt() -> Iterator[Process]:
    """Run amqtt, which knows MQTT 3.1.1 alone."""
    pytest.importorskip("amqtt")
    port = free_port()
    broker = Process([sys.executable, "-c", AMQTT, str(port)], port)
    try:
        yield broker
    finally:
        broker.kill()


class Subscriber:
    """An independent client that keeps every message of `pattern` in the order of arrival.

    With a `session` name the broker keeps messages for it while it is away.
    """

    def __init__(
        self, port: int, pattern: str = "#", *, session: str = "", login: tuple[str, str] | None = None
    ) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        self._ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=session, clean_session=not session)
        if login is not None:
            self._client.username_pw_set(*login)
        self._client.on_connect = lambda client, *_: client.subscribe(pattern, qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda _c, _d, m: self.messages.append((m.topic, m.payload, m.retain))
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(HANGS_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def payloads(self, topic_part: str) -> list[bytes]:
        """Return the payloads of topics that contain `topic_part`."""
        return [payload for topic, payload, _ in list(self.messages) if topic_part in topic]


class FakeBroker:
    """Speaks as much MQTT as a publisher needs.

    `on_connect(level)` gives the CONNACK's bytes; `on_publish(packet_id)` those of the answer, or None to
    close the connection. `seen` holds the publishes, `published` those answered, `levels` the protocol levels
    that were tried.
    """

    def __init__(
        self,
        on_connect: Callable[[int], bytes],
        on_publish: Callable[[int], bytes | None] = lambda mid: struct.pack("!BBH", 0x40, 2, mid),
    ) -> None:
        self.levels: list[int] = []
        self.published: list[bytes] = []
        self.seen: list[bytes] = []
        self._on_connect, self._on_publish = on_connect, on_publish
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.port = int(self._server.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for link in self._open:
            link.close()
        self._thread.join(HANGS_S)

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._server.accept()
            except OSError:
                return
            self._open.append(link)
            with contextlib.suppress(OSError, IndexError):
                self._talk(link)

    def _talk(self, link: socket.socket) -> None:
        stream = link.makefile("rb")
        while head := stream.read(1):
            body = stream.read(packet_length(stream))
            kind, answer = head[0] >> 4, b""
            if kind == 1:
                self.levels.append(body[6])
                answer = self._on_connect(body[6])
            elif kind == 3 and head[0] & 0x06:
                self.seen.append(body)
                topic_end = 2 + int.from_bytes(body[:2], "big")
                reply = self._on_publish(int.from_bytes(body[topic_end : topic_end + 2], "big"))
                if reply is None:
                    break
                self.published.append(body)
                answer = reply
            elif kind == 12:
                answer = b"\xd0\x00"
            link.sendall(answer)
            refused = (
                answer[:1] == b"\x20" and answer[3:4] != b"\0"
            )  # a CONNACK; what is none keeps him waiting
            if kind == 14 or (kind == 1 and refused):
                break
        link.shutdown(socket.SHUT_RDWR)
        link.close()


def packet_length(stream: object) -> int:
    """Read the remaining length of a packet (section 1.5.5 of MQTT 5)."""
    total, shift = 0, 0
    while True:
        byte = stream.read(1)[0]  # type: ignore[attr-defined]
        total |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return total


def wait_for(done: Callable[[], object], timeout_s: float, what: str) -> None:
    """Look every 20 ms until `done()`; fail after `timeout_s`, naming `what`."""
    end_s = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < end_s, f"waited {timeout_s} s for {what}"
        threading.Event().wait(0.02)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False
