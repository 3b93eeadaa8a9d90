"""A service that ended badly, and the one that is started after it: what its birth tells, and when it begins."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.lastwords import NAME
from agent.starter import sample_clip
from tests.e2e.brokers import Subscriber, mosquitto, wait_for
from tests.patience import HANGS_S

ROOT = Path(__file__).parents[2]
CONFIG = """
device = "pi"
state_dir = "{state}"
[mqtt]
host = "127.0.0.1"
port = {port}
[[camera]]
name = "yard"
source = "{clip}"
"""


class Manager:
    """A service manager that starts the agent with a configuration for the broker at `port`."""

    def __init__(self, folder: Path, port: int) -> None:
        self.state, self._config = folder / "state", folder / "config.toml"
        self._config.write_text(CONFIG.format(state=self.state, port=port, clip=sample_clip()))
        self._address = folder / "notify"
        self._link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._link.bind(str(self._address))
        self._link.settimeout(HANGS_S)

    @contextlib.contextmanager
    def agent(self) -> Iterator[subprocess.Popen[str]]:
        """Start it; it is over after the block."""
        command = [sys.executable, "-m", "agent", "run", "--config", str(self._config)]
        environ = os.environ | {"NOTIFY_SOCKET": str(self._address)}
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.communicate(timeout=HANGS_S)

    def hear(self, word: str) -> list[str]:
        """Wait for a line that starts with `word`; return all lines up to it."""
        heard: list[str] = []
        while not any(line.startswith(word) for line in heard):
            heard += self._link.recv(4096).decode().split("\n")
        return heard

    def close(self) -> None:
        self._link.close()


@pytest.fixture
def told(tmp_path: Path) -> Iterator[tuple[Manager, Subscriber]]:
    """Yield the manager of an agent, and a subscriber to its status."""
    with mosquitto(tmp_path) as broker, Subscriber(broker.port, "edge/pi/status") as seen:
        manager = Manager(tmp_path, broker.port)
        with contextlib.closing(manager):
            yield manager, seen


def births(seen: Subscriber) -> list[dict[str, Any]]:
    return [
        status for status in map(msgspec.json.decode, seen.payloads("/status")) if status["state"] == "online"
    ]


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGABRT, "aborted"), (signal.SIGKILL, "killed")])
def test_the_next_birth_tells_of_a_bad_end(
    told: tuple[Manager, Subscriber], number: signal.Signals, reason: str
) -> None:
    """When it was and what the threads did; the log has it too; an end in order is none."""
    manager, seen = told
    with manager.agent() as agent:
        manager.hear("READY=1")
        wait_for(lambda: births(seen), HANGS_S, "a birth")
        assert births(seen)[-1]["last_end"] is None
        agent.send_signal(number)
        agent.wait(HANGS_S)
    with manager.agent() as agent:
        wait_for(lambda: len(births(seen)) > 1, HANGS_S, "a birth")
        last = births(seen)[-1]["last_end"]
        manager.hear("READY=1")
        agent.terminate()
        _, log = agent.communicate(timeout=HANGS_S)
        assert agent.returncode == 0
    assert last["reason"] == reason
    assert ("thread: " in last["detail"], "thread: " in log) == (reason == "aborted", reason == "aborted")
    assert f"the agent ended badly at {last['time']} ({reason})" in log
    assert not (manager.state / NAME).exists()


def test_a_start_after_short_runs_waits_and_can_be_stopped(told: tuple[Manager, Subscriber]) -> None:
    """The manager hears why; no camera is touched; a stop meanwhile ends it at once, and the next start is at once."""
    manager, seen = told
    manager.state.mkdir()
    (manager.state / NAME).write_text("started after 4 short runs\n")
    with manager.agent() as agent:
        heard = manager.hear("STATUS=")
        assert heard == [
            "EXTEND_TIMEOUT_USEC=150000000",
            "STATUS=starting in 60 s: the last runs ended badly, see the journal",
        ]
        begin_s = time.monotonic()
        agent.terminate()
        assert agent.wait(HANGS_S) == 0
        assert time.monotonic() - begin_s < 40
        assert manager.hear("STOPPING=1")[:1] == ["STOPPING=1"]
    assert not births(seen)
    with manager.agent():
        assert "starting in" not in "".join(manager.hear("READY=1"))
