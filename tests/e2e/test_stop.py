"""How a run ends when something goes wrong or someone wants it to: soon, with the right code, in one line."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.control import ask
from agent.errors import ServiceAway
from agent.starter import sample_clip
from agent.status import read
from tests.e2e.brokers import free_port, wait_for

ROOT = Path(__file__).parents[2]
AGENT = [sys.executable, "-m", "agent", "run"]


def test_a_fault_behind_the_engine_ends_a_run_at_full_speed(tmp_path: Path) -> None:
    """When a result can't be written, capture does not wait for ever for someone to take its frames."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    files = ["--detections", "/dev/full", "--sink", str(tmp_path / "e"), "--state", str(tmp_path / "s")]
    begin_s = time.monotonic()
    command = [*AGENT, "--source", str(sample_clip()), "--pace", "fastest", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 74
    assert len(done.stderr.splitlines()) == 1
    assert time.monotonic() - begin_s < 9  # a capture thread left behind would cost 10 s


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_the_camera_does_not_answer(number: int, tmp_path: Path) -> None:
    """A signal ends the wait for a silent camera at once, with exit code 0."""
    with socket.create_server(("127.0.0.1", 0)) as camera:
        url = f"rtsp://127.0.0.1:{camera.getsockname()[1]}/cam"
        files = ["--sink", str(tmp_path / "e"), "--state", str(tmp_path / "s")]
        agent = subprocess.Popen([*AGENT, "--source", url, *files], cwd=ROOT, stderr=subprocess.PIPE)
        try:
            camera.settimeout(20)
            connection, _ = camera.accept()
            with connection:
                begin_s = time.monotonic()
                agent.send_signal(number)
                assert agent.wait(20) == 0
                assert time.monotonic() - begin_s < 5
        finally:
            agent.kill()
            agent.communicate()


def test_what_the_shell_has_it_ignore_stays_ignored(tmp_path: Path) -> None:
    """Under nohup a hang-up ends nothing; SIGTERM still does."""
    files = ["--sink", str(tmp_path / "e"), "--state", str(tmp_path / "s")]
    command = ["nohup", *AGENT, "-v", "--source", str(sample_clip()), *files]
    agent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert agent.stderr is not None
        assert any("connected to" in line for line in agent.stderr)
        agent.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            agent.wait(2)
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(20) == 0
    finally:
        agent.kill()
        agent.communicate()


def test_a_stop_does_not_wait_for_a_broker_that_is_away(tmp_path: Path) -> None:
    """However long the drain may be: what is queued is kept, and the exit code says so."""
    state = tmp_path / "s"
    broker = ["--broker", f"mqtt://127.0.0.1:{free_port()}", "--drain-s", "60", "--state", str(state)]
    agent = subprocess.Popen(
        [*AGENT, "--source", str(sample_clip()), *broker], cwd=ROOT, stderr=subprocess.PIPE
    )
    try:
        wait_for(lambda: queued(state) >= 3, 40, "events in the outbox")
        begin_s = time.monotonic()
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(20) == 75
        assert time.monotonic() - begin_s < 10
    finally:
        agent.kill()
        agent.communicate()


def queued(state: Path) -> int:
    """Return how many messages wait in the outbox of the agent with that state directory."""
    try:
        return read(ask(state, "status")).outbox.queued
    except ServiceAway:
        return 0
