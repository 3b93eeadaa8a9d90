"""Ends that someone asks for, and two agents that want the same state."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.starter import sample_clip
from tests.bench import stop
from tests.e2e.brokers import mosquitto, wait_for
from tests.patience import HANGS_S

ROOT = Path(__file__).parents[2]


def test_sigterm_at_any_moment(tmp_path: Path) -> None:
    """Five runs, with the broker there, absent and going away: each ends, and every event arrives."""
    stops, verdict = stop.measure(tmp_path, runs=5)
    assert {each.code for each in stops} <= {0, 75, -15}  # -15: before Python had come to the agent
    assert verdict.sound, verdict


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_sigterm_at_fifty_moments(tmp_path: Path) -> None:
    """The 99th percentile of the time to the end is at most 5 s."""
    told = stop.figures(*stop.measure(tmp_path, runs=50))
    assert told["verdict"]["sound"], told["verdict"]
    assert told["times"]["all"]["p99_s"] <= 5.0


def test_the_second_agent_on_a_state_directory_ends(tmp_path: Path) -> None:
    """It exits 75 with one line that names the first, which goes on undisturbed."""
    with mosquitto(tmp_path) as broker:
        url = [
            "--broker",
            f"mqtt://127.0.0.1:{broker.port}",
            "--device",
            "twice",
            "--state",
            tmp_path / "state",
        ]
        command = [sys.executable, "-m", "agent", "run", "--source", sample_clip(), *url]
        first = subprocess.Popen(list(map(str, command)), cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            wait_for(
                lambda: (tmp_path / "state/outbox.db").exists() or first.poll() is not None,
                HANGS_S,
                "the first",
            )
            second = subprocess.run(
                list(map(str, command)),
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=HANGS_S,
                check=False,
            )
            assert second.returncode == 75
            (line,) = second.stderr.splitlines()
            assert str(first.pid) in line
            assert first.poll() is None
        finally:
            first.kill()
            first.communicate()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_memory_descriptors_and_threads_stay(tmp_path: Path) -> None:
    """Three minutes of frames and events: the last quarter needs no 2 MiB more, no descriptor and no thread.

    What malloc takes in steps is more than 1 KiB for 1,000 frames in so short a time: see `soak --minutes 60`.
    """
    told = tmp_path / "told.json"
    command = [sys.executable, "-m", "tests.bench", "soak", "--minutes", "3", "--json", str(told)]
    subprocess.run(command, cwd=ROOT, check=True)
    grown = json.loads(told.read_text())
    for over in ("frames", "events"):
        assert grown[over]["last_quarter_bytes"] <= 2 << 20
        assert grown[over]["descriptors"] <= 0
        assert grown[over]["threads"] <= 0
