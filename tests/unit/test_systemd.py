"""What systemd hears: over a real socket, as sd_notify(3) has it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import systemd as agent_systemd
from agent.systemd import PATIENCE_S, Systemd, in_words
from tests.e2e.brokers import wait_for
from tests.patience import HANGS_S


class Manager:
    """The end of the socket that the service manager has."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(HANGS_S)
        self.environ = {
            "NOTIFY_SOCKET": address,
            "WATCHDOG_USEC": "30000000",
            "WATCHDOG_PID": str(os.getpid()),
        }

    def heard(self) -> list[str]:
        """Return the lines of the next datagram."""
        return self.socket.recv(4096).decode().split("\n")

    def heard_nothing(self) -> bool:
        """Tell whether no datagram is there."""
        self.socket.setblocking(False)
        try:
            return not self.socket.recv(4096)
        except BlockingIOError:
            return True


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify") if request.param == "path" else f"@edge-agent-test-{os.getpid()}")
    yield made
    made.socket.close()


def test_ready_is_said_once(manager: Manager) -> None:
    """Not before there is something to be ready with; the words change with it."""
    systemd = Systemd(manager.environ)
    systemd.look("ok", ready=False)
    assert manager.heard() == ["WATCHDOG=1", "STATUS=starting: no inference yet"]
    systemd.look("ok", ready=True)
    assert manager.heard() == ["WATCHDOG=1", "READY=1", "STATUS=ok"]
    systemd.look("ok", ready=True)
    assert manager.heard() == ["WATCHDOG=1"]


def test_degraded_is_alive(manager: Manager) -> None:
    """A camera or broker that is away feeds the watchdog all the same."""
    systemd = Systemd(manager.environ)
    systemd.look("degraded", ["camera yard: down: timed out", "broker: refused"], ready=True)
    words = "STATUS=degraded: camera yard: down: timed out; broker: refused"
    assert manager.heard() == ["WATCHDOG=1", "READY=1", words]


def test_stuck_is_not_fed_and_then_ended(manager: Manager) -> None:
    """First it gets the chance to go on, then it is given up."""
    systemd = Systemd(manager.environ)
    systemd.look("stuck", ["engine: inference takes longer than 10 s"], ready=True, overdue_s=1.0)
    assert manager.heard() == ["STATUS=stuck: engine: inference takes longer than 10 s"]
    systemd.look("stuck", ["engine: inference takes longer than 10 s"], ready=True, overdue_s=PATIENCE_S)
    assert manager.heard_nothing()
    systemd.look(
        "stuck", ["engine: inference takes longer than 10 s"], ready=True, overdue_s=PATIENCE_S + 0.1
    )
    manager.socket.settimeout(HANGS_S)
    assert manager.heard() == ["WATCHDOG=trigger"]


def test_reload(manager: Manager) -> None:
    """With the time systemd wants; READY comes again once all is well."""
    systemd = Systemd(manager.environ)
    systemd.look("ok", ready=True)
    manager.heard()
    systemd.reloading()
    first, time_us, words = manager.heard()
    assert (first, words) == ("RELOADING=1", "STATUS=reloading")
    assert time_us.startswith("MONOTONIC_USEC=")
    assert time_us.partition("=")[2].isdecimal()
    systemd.look("ok", ready=True)
    assert manager.heard() == ["WATCHDOG=1"]
    systemd.reloaded()
    systemd.look("ok", ready=True)
    assert manager.heard() == ["WATCHDOG=1", "READY=1", "STATUS=ok"]


def test_who_is_busy_is_fed_until_somebody_looks(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """While models are loaded nobody looks around: signs of life come all the same, and more time is asked for."""
    monkeypatch.setattr(agent_systemd, "_FEED_S", 0.01)
    with Systemd(manager.environ) as systemd:
        systemd.busy("starting: models and outbox are opened")
        words = "STATUS=starting: models and outbox are opened"
        assert manager.heard() == ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=60000000", words]
        assert [manager.heard() for _ in range(3)] == [["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=60000000"]] * 3
        systemd.look("ok", ready=True)
        while manager.heard() != ["WATCHDOG=1", "READY=1", "STATUS=ok"]:
            pass
        silent(manager)
        systemd.busy("reloading")
        assert manager.heard() == ["WATCHDOG=1", "STATUS=reloading"]
    silent(manager)


def test_who_is_busy_for_ever_is_fed_no_more(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that hangs is given up: systemd's own limits hold then."""
    monkeypatch.setattr(agent_systemd, "_FEED_S", 0.01)
    monkeypatch.setattr(agent_systemd, "BUSY_S", 0.1)
    systemd = Systemd(manager.environ)
    systemd.busy("starting")
    wait_for(lambda: not feeders(), HANGS_S, "the feeding to end")
    assert manager.heard()[0] == "WATCHDOG=1"


def test_a_stop_asks_for_no_time(manager: Manager) -> None:
    """Who stops has TimeoutStopSec, however busy."""
    systemd = Systemd(manager.environ)
    systemd.stopping("shutdown")
    systemd.busy("reloading")
    assert manager.heard() == ["STOPPING=1", "STATUS=stopping: shutdown"]
    assert manager.heard_nothing()


def feeders() -> list[threading.Thread]:
    """Return the threads that feed."""
    return [thread for thread in threading.enumerate() if thread.name == "systemd"]


def silent(manager: Manager) -> None:
    """Wait until nobody feeds any more, and hear what was still told."""
    wait_for(lambda: not feeders(), HANGS_S, "the feeding to end")
    while not manager.heard_nothing():
        pass
    manager.socket.settimeout(HANGS_S)


def test_stopping_has_the_last_word(manager: Manager) -> None:
    """What is looked at while the end is near feeds the watchdog and says nothing any more."""
    systemd = Systemd(manager.environ)
    systemd.stopping("shutdown")
    assert manager.heard() == ["STOPPING=1", "STATUS=stopping: shutdown"]
    systemd.look("degraded", ["camera yard: down"], ready=True)
    assert manager.heard() == ["WATCHDOG=1"]


def test_more_time(manager: Manager) -> None:
    """In microseconds, with the reason in words."""
    systemd = Systemd(manager.environ)
    assert systemd.manages
    systemd.extend(12.5, "waiting")
    assert manager.heard() == ["EXTEND_TIMEOUT_USEC=12500000", "STATUS=waiting"]


@pytest.mark.parametrize("environ", [{"WATCHDOG_USEC": ""}, {"WATCHDOG_PID": "1"}])
def test_no_watchdog_or_that_of_another_process(manager: Manager, environ: dict[str, str]) -> None:
    """Then there are no signs of life, and nothing is set off."""
    systemd = Systemd({**manager.environ, **environ})
    systemd.look("ok", ready=True)
    assert manager.heard() == ["READY=1", "STATUS=ok"]
    systemd.look("stuck", ready=True, overdue_s=1e6)
    assert manager.heard() == ["STATUS=stuck"]


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative"])
def test_without_a_manager_nothing_is_told(address: str) -> None:
    """Not started by systemd, or by one that listens where we can't speak."""
    systemd = Systemd({"NOTIFY_SOCKET": address})
    assert not systemd.manages
    systemd.look("ok", ready=True)
    systemd.stopping("shutdown")


def test_a_manager_that_is_gone_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The agent goes on."""
    systemd = Systemd({"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "1"})
    for _ in range(3):
        systemd.look("ok", ready=True)
    assert len(caplog.records) == 1


@given(st.sampled_from(["ok", "degraded", "stuck"]), st.lists(st.text(), max_size=5), st.booleans())
def test_words_are_one_short_line(state: str, reasons: list[str], ready: bool) -> None:
    """Whatever the reasons hold: a newline would be another field."""
    words = in_words(state, reasons, ready=ready)
    assert len(words.splitlines()) == 1
    assert len(words) <= 200


def test_no_login_is_shown() -> None:
    """Even one that would be cut in two by the limit."""
    words = in_words("degraded", ["x" * 170 + " rtsp://admin:s3cret@camera/stream"], ready=True)
    assert "s3cret" not in words
    assert "admin" not in words
