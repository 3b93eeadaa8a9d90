"""The metrics endpoint over real sockets: who asks well, who asks badly, who never ends."""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import threading
import time
from dataclasses import replace
from itertools import chain, repeat
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.errors import CannotCreate
from agent.metrics.endpoint import CLIENTS, Endpoint
from tests.patience import HANGS_S
from tests.unit.metrics_samples import SNAPSHOT

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENT_S = 2.0
"""What a client gets where the end of it is to be seen; else there is no end."""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """Serve the sample snapshot on a free port of loopback, with all the time of the world for each client."""
    with Endpoint("127.0.0.1", 0, lambda: SNAPSHOT, client_s=3600.0) as served:
        yield served


@pytest.fixture
def hasty() -> Iterator[Endpoint]:
    """Serve it, and let a client go after CLIENT_S."""
    with Endpoint("127.0.0.1", 0, lambda: SNAPSHOT, client_s=CLIENT_S) as served:
        yield served


def ask(
    endpoint: Endpoint, path: str = "/metrics", method: str = "GET", **headers: str
) -> tuple[int, str, str]:
    """Return status, content type and text of an answer."""
    connection = http.client.HTTPConnection(*endpoint.address, timeout=HANGS_S)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()
    finally:
        connection.close()


def connected(endpoint: Endpoint, text: str = "") -> socket.socket:
    """Return a connection over which `text` was sent."""
    client = socket.create_connection(endpoint.address, timeout=HANGS_S)
    client.sendall(text.encode())
    return client


def wait_closed(client: socket.socket) -> None:
    """Return when the other side has closed."""
    with contextlib.suppress(ConnectionResetError):
        while client.recv(4096):
            pass


def test_prometheus_gets_its_text(endpoint: Endpoint) -> None:
    """Status, type, and all families; OpenMetrics for who accepts it."""
    status, content_type, text = ask(endpoint)
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "edge_agent_frames" in {family.name for family in text_string_to_metric_families(text)}
    status, content_type, text = ask(endpoint, Accept="application/openmetrics-text;version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/metrics?name=a", 200),
        ("POST", "/metrics", 405),
        ("GET", "/../etc/passwd", 404),
    ],
)
def test_other_requests(endpoint: Endpoint, method: str, path: str, status: int) -> None:
    """Nothing else is served."""
    assert ask(endpoint, path, method)[0] == status


@pytest.mark.parametrize("text", ["\r\n\r\n", "hello\r\n\r\n", "\x00\xff\r\n\r\n", "GET  HTTP/1.1\r\n\r\n"])
def test_what_is_not_http_gets_400(endpoint: Endpoint, text: str) -> None:
    """One answer, then the connection is closed."""
    with connected(endpoint, text) as client:
        assert client.recv(4096).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        wait_closed(client)


def test_a_request_that_is_too_long_is_cut_off(endpoint: Endpoint) -> None:
    """Whatever time it has; others are served meanwhile."""
    with connected(endpoint, "GET /metrics HTTP/1.1\r\n" + "a: b\r\n" * 4000) as long:
        wait_closed(long)
    with connected(endpoint), connected(endpoint, "GET /metrics HTTP/1.1\r\n"):
        assert ask(endpoint)[0] == 200


def test_a_request_without_end_is_cut_off(hasty: Endpoint) -> None:
    """A client has no more time than its share."""
    with connected(hasty) as idle, connected(hasty, "GET /metrics HTTP/1.1\r\n") as slow:
        for client in (idle, slow):
            wait_closed(client)
        assert ask(hasty)[0] == 200


def test_a_client_that_drips_is_cut_off(hasty: Endpoint) -> None:
    """A byte now and then does not keep a connection: the limit is for all of it."""
    with connected(hasty) as client:
        client.settimeout(CLIENT_S / 20)
        begin_s = time.monotonic()
        while not _gone(client):
            assert time.monotonic() - begin_s < HANGS_S


def _gone(client: socket.socket) -> bool:
    """Send one more byte, wait a little, and tell whether the other side has closed."""
    try:
        client.sendall(b"a")
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_a_crowd_is_sent_away_and_costs_no_thread(endpoint: Endpoint) -> None:
    """Those over the bound get 503, no threads are made, and when the crowd has gone all is well."""
    threads = threading.active_count()
    crowd = [connected(endpoint, "GET /metrics HTTP/1.1\r\n") for _ in range(CLIENTS)]
    try:
        with connected(endpoint) as more:
            assert more.recv(4096).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert threading.active_count() == threads
    finally:
        for client in crowd:
            client.close()
    deadline_s = time.monotonic() + HANGS_S
    while ask(endpoint)[0] != 200:
        assert time.monotonic() < deadline_s


def heard(client: socket.socket) -> bytes:
    """Return the beginning of an answer, nothing for who was cut off without one."""
    try:
        return client.recv(12)
    except ConnectionResetError:
        return b""


def test_who_comes_at_once_with_a_crowd_is_among_the_first(hasty: Endpoint) -> None:
    """Of more than the bound at the same moment, as many as the bound are served."""
    crowd = [socket.socket() for _ in range(CLIENTS + 4)]
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go_on.wait(HANGS_S)

    hasty._loop.call_soon_threadsafe(hold)
    assert held.wait(HANGS_S)
    for client in crowd:
        client.settimeout(HANGS_S)
        client.connect(hasty.address)
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
    go_on.set()
    try:
        assert [heard(client) for client in crowd].count(b"HTTP/1.1 503") == 4
    finally:
        for client in crowd:
            client.close()


def test_a_client_that_does_not_read_is_cut_off() -> None:
    """With megabytes that it leaves in the pipe, it is let go of at the limit, and others are served meanwhile."""
    many = tuple(replace(SNAPSHOT.cameras[0], name=f"camera {number}") for number in range(3000))
    answers = chain([replace(SNAPSHOT, cameras=many)], repeat(SNAPSHOT))
    with (
        Endpoint("127.0.0.1", 0, lambda: next(answers), client_s=CLIENT_S) as served,
        socket.socket() as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(HANGS_S)
        client.connect(served.address)
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert client.recv(8).startswith(b"HTTP/1.1")
        assert served._clients == 1
        assert ask(served)[0] == 200
        deadline_s = time.monotonic() + HANGS_S
        while served._clients:
            assert time.monotonic() < deadline_s
            assert ask(served)[0] == 200


def test_a_fault_in_the_numbers_is_told_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    """500, one line in the log, and the next request is answered."""
    answers = iter([RuntimeError("no camera"), SNAPSHOT])

    def snapshot() -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with caplog.at_level(logging.ERROR), Endpoint("127.0.0.1", 0, snapshot) as served:
        assert ask(served)[0] == 500
        assert caplog.messages == ["metrics: RuntimeError: no camera"]
        assert ask(served)[0] == 200


def test_a_port_that_is_taken_is_one_clear_error(endpoint: Endpoint) -> None:
    """What, which address, and what to do."""
    host, port = endpoint.address
    with pytest.raises(CannotCreate, match=rf"Address already in use.*{host} port {port}; give another"):
        Endpoint(host, port, lambda: SNAPSHOT).__enter__()


def test_the_end_cuts_everybody_off(caplog: pytest.LogCaptureFixture) -> None:
    """Its thread ends, with clients still there that have an hour, and without a word in the log."""
    with Endpoint("127.0.0.1", 0, lambda: SNAPSHOT, client_s=3600.0) as served:
        client = connected(served, "GET")
        ask(served)
    with client:
        wait_closed(client)
    assert not served._thread.is_alive()
    assert caplog.messages == []
