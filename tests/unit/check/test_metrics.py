"""The address of the metrics: free, taken by somebody, or by the agent itself."""

from __future__ import annotations

import socket
import threading

import pytest

from agent.check import metrics
from agent.errors import CannotCreate
from agent.metrics.endpoint import Endpoint
from tests.e2e.brokers import free_port
from tests.unit.metrics_samples import SNAPSHOT


def test_a_free_address_is_free() -> None:
    """It is let go again: the second look finds the same."""
    port = free_port()
    for _ in range(2):
        (row,) = metrics.check(("127.0.0.1", port), device="dev1")
        assert (row.state, row.seen) == ("ok", f"http://127.0.0.1:{port}/metrics is free")


def test_one_that_another_program_has_is_a_fault() -> None:
    """It is told as `run` tells it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        with pytest.raises(CannotCreate, match="already in use"):
            metrics.check(server.getsockname(), device="dev1")


def test_the_agent_that_runs_may_have_it() -> None:
    """Its own device's agent is no fault, another device's is."""
    with Endpoint("127.0.0.1", 0, lambda: SNAPSHOT) as endpoint:
        (row,) = metrics.check(endpoint.address, device=SNAPSHOT.device)
        assert row.state == "ok"
        assert "the agent that runs answers" in row.seen
        with pytest.raises(CannotCreate):
            metrics.check(endpoint.address, device="other")
