"""One step of a paho client's loop: sleep until there is something to do, then do it."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.mqtt.client import Client
    from agent.waker import Waker


_MOST_PACKETS = 64
"""So many are read in one step: answers to what was sent may stand behind much else."""
_PIECE_BYTES = 1 << 16


def wait(client: Client | None, waker: Waker, timeout_s: float) -> None:
    """Sleep until the socket of `client` or `waker` has something to do, for `timeout_s` at most."""
    poller = select.poll()
    poller.register(waker, select.POLLIN)
    sock = client.socket() if client is not None else None
    if client is not None and sock is not None:
        poller.register(sock, select.POLLIN | (select.POLLOUT if client.want_write() else 0))
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            timeout_s = 0.0
    poller.poll(max(0.0, timeout_s) * 1e3)
    waker.clear()


def work(client: Client, current: Callable[[], bool]) -> bool:
    """Read, write and keep alive as long as `client` is the `current` one; return False when its connection is over.

    paho tells by callbacks what came of it.
    """
    if isinstance(sock := client.socket(), socket.socket):
        # A broker that collects its answers (Nagle) would wait 40 ms for each acknowledgement of ours.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    for _ in range(_MOST_PACKETS):
        if current():
            client.loop_read()
        if not (current() and _readable(client)):
            break
    for step in (client.loop_write, client.loop_misc):
        if current():
            step()
    return client.socket() is not None


def read_out(handle: int, end_s: float) -> None:
    """Read and drop what still comes on the socket `handle` until the broker closes it, `end_s` at most; close it.

    A broker must close at a DISCONNECT. To close before it did would reset the connection where something is unread,
    and keep the DISCONNECT from the broker.
    """
    with socket.socket(fileno=handle) as sock:
        sock.setblocking(False)
        poller = select.poll()
        poller.register(sock, select.POLLIN)
        with contextlib.suppress(OSError):
            while (left_s := end_s - time.monotonic()) > 0 and poller.poll(left_s * 1e3):
                if not sock.recv(_PIECE_BYTES):
                    break


def _readable(client: Client) -> bool:
    sock = client.socket()
    if not isinstance(sock, socket.socket):
        return False
    if isinstance(sock, ssl.SSLSocket) and sock.pending():
        return True
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(0))
