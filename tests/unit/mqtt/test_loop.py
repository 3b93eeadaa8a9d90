"""One step of the loop, on a client that reads a byte at a time."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from agent.mqtt.loop import work

if TYPE_CHECKING:
    from collections.abc import Iterator


class Reader:
    """Reads one byte in each `loop_read`, as paho does a packet; ends at an "x"."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock: socket.socket | None = sock
        self.steps: list[str] = []

    def socket(self) -> socket.socket | None:
        return self._sock

    def loop_read(self) -> None:
        assert self._sock is not None
        self._sock.setblocking(False)
        try:
            self.steps.append(self._sock.recv(1).decode())
        except BlockingIOError:
            self.steps.append("")
        if self.steps[-1] == "x":
            self._sock = None

    def loop_write(self) -> None:
        self.steps.append("write")

    def loop_misc(self) -> None:
        self.steps.append("misc")


@pytest.fixture
def ends() -> Iterator[tuple[Any, socket.socket]]:
    """Yield a reader and what it is written by."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = socket.create_connection(server.getsockname())
        far, _ = server.accept()
        with sock, far:
            yield Reader(sock), far


def test_all_that_has_come_is_read_in_one_step(ends: tuple[Any, socket.socket]) -> None:
    """An answer behind thirty other packets does not wait for thirty steps; nothing to read is no harm."""
    client, far = ends
    far.sendall(b"a" * 30)
    assert work(client, lambda: True)
    assert client.steps == ["a"] * 30 + ["write", "misc"]
    client.steps.clear()
    assert work(client, lambda: True)
    assert client.steps == ["", "write", "misc"]


def test_a_flood_does_not_keep_it_from_writing(ends: tuple[Any, socket.socket]) -> None:
    """However much has come, what is to be sent has its turn."""
    client, far = ends
    far.sendall(b"a" * 1000)
    assert work(client, lambda: True)
    assert 1 < client.steps.index("write") < 1000


def test_it_ends_with_the_connection(ends: tuple[Any, socket.socket]) -> None:
    """What is behind is not read, and nothing more is done for a client that is given up."""
    client, far = ends
    far.sendall(b"ax" + b"a" * 30)
    assert not work(client, lambda: client.socket() is not None)
    assert client.steps == ["a", "x"]
