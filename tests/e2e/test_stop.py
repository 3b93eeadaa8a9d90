"""How a run ends when something goes wrong or someone wants it to: soon, with the right code, in one line."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent.control import ask
from agent.errors import ServiceAway
from agent.starter import sample_clip
from agent.status import read
from tests.e2e.brokers import free_port, wait_for
from tests.e2e.test_several_cameras import write
from tests.patience import HANGS_S

ROOT = Path(__file__).parents[2]
AGENT = [sys.executable, "-m", "agent", "run"]


def test_a_fault_behind_the_engine_ends_a_run_at_full_speed(tmp_path: Path) -> None:
    """When a result can't be written, capture does not wait for ever for someone to take its frames."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    files = ["--detections", "/dev/full", "--sink", str(tmp_path / "e"), "--state", str(tmp_path / "s")]
    command = [*AGENT, "-v", "--source", str(sample_clip()), "--pace", "fastest", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS_S, check=False)
    assert done.returncode == 74
    assert "does not end" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if "error" in line]) == 1, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_the_camera_does_not_answer(number: int, tmp_path: Path) -> None:
    """A signal ends the wait for a silent camera, which would go on for an hour, with exit code 0."""
    with socket.create_server(("127.0.0.1", 0)) as camera:
        url = f"rtsp://127.0.0.1:{camera.getsockname()[1]}/cam"
        config = write(tmp_path / "c.toml", {"yard": url}, sink=str(tmp_path / "e"))
        config.write_text(config.read_text() + "\nopen_timeout_s = 3600\n")
        agent = subprocess.Popen([*AGENT, "--config", str(config)], cwd=ROOT, stderr=subprocess.PIPE)
        try:
            camera.settimeout(HANGS_S)
            connection, _ = camera.accept()
            with connection:
                agent.send_signal(number)
                assert agent.wait(HANGS_S) == 0
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
        assert agent.wait(HANGS_S) == 0
    finally:
        agent.kill()
        agent.communicate()


def test_a_stop_does_not_wait_for_a_broker_that_is_away(tmp_path: Path) -> None:
    """However long the drain may be: what is queued is kept, and the exit code says so."""
    state = tmp_path / "s"
    broker = ["--broker", f"mqtt://127.0.0.1:{free_port()}", "--drain-s", "3600", "--state", str(state)]
    agent = subprocess.Popen(
        [*AGENT, "--source", str(sample_clip()), *broker], cwd=ROOT, stderr=subprocess.PIPE
    )
    try:
        wait_for(lambda: queued(state) >= 3, HANGS_S, "events in the outbox")
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(HANGS_S) == 75
    finally:
        agent.kill()
        agent.communicate()


def queued(state: Path) -> int:
    """Return how many messages wait in the outbox of the agent with that state directory."""
    try:
        return read(ask(state, "status")).outbox.queued
    except ServiceAway:
        return 0
