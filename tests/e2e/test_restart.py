"""What subscribers see of an agent that was killed, and of the one that comes after it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent.starter import sample_clip
from tests.e2e.brokers import Subscriber, mosquitto, wait_for
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from typing import Any

ROOT = Path(__file__).parents[2]


def _events(subscriber: Subscriber) -> list[dict[str, Any]]:
    return [msgspec.json.decode(payload) for payload in subscriber.payloads("/events/")]


def _counts(subscriber: Subscriber) -> list[int]:
    return [msgspec.json.decode(payload)["count"] for payload in subscriber.payloads("/state/")]


def _agent(port: int, folder: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "agent", "run", "--source", str(sample_clip()), "--device", "pi"]
    command += ["--broker", f"mqtt://127.0.0.1:{port}", "--state", str(folder), *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_an_event_open_at_a_kill_is_ended_and_the_count_corrected(tmp_path: Path) -> None:
    """After kill -9 the next start ends each open event once, reason `restart`, and the retained count is true."""
    with mosquitto(tmp_path) as broker, Subscriber(broker.port, session="all") as seen:
        agent = _agent(broker.port, tmp_path / "state", "--camera", "yard")
        try:
            wait_for(lambda: _events(seen) and any(_counts(seen)), HANGS_S, "an event and a count")
        finally:
            agent.kill()
            agent.wait(HANGS_S)
        wait_for(lambda: b"offline" in seen.payloads("/status")[-1], HANGS_S, "the last will")
        before = _events(seen)
        left = {e["event_id"] for e in before} - {e["event_id"] for e in before if e["type"] == "end"}
        assert left
        told = len(_counts(seen))

        nobody = ("--camera", "other", "--threshold", "1")
        agent = _agent(broker.port, tmp_path / "state", *nobody)
        try:
            wait_for(lambda: any(e["reason"] == "restart" for e in _events(seen)), HANGS_S, "the end")
            wait_for(lambda: len(_counts(seen)) > told, HANGS_S, "the count")
        finally:
            agent.terminate()
            assert agent.wait(HANGS_S) == 0
        ends = [e for e in _events(seen)[len(before) :] if e["type"] == "end"]
        assert {e["event_id"] for e in ends if e["reason"] == "restart"} >= left
        assert len({e["event_id"] for e in ends}) == len(ends)
        assert all(e["camera"] == "yard" for e in ends if e["reason"] == "restart")
        with Subscriber(broker.port, "edge/pi/state/#") as late:
            wait_for(lambda: late.payloads("/state/yard/"), HANGS_S, "retained counts")
            assert set(_counts(late)) == {0}


def test_an_end_that_was_told_is_not_told_again(tmp_path: Path) -> None:
    """A run that ends in order leaves nothing open for the next one."""
    state = ["--state", str(tmp_path / "state"), "--device", "pi", "--source", str(sample_clip())]
    for run in ("one", "two"):
        command = [sys.executable, "-m", "agent", "run", *state, "--pace", "fastest", "--sink"]
        subprocess.run([*command, str(tmp_path / "sink.jsonl")], cwd=ROOT, check=True, timeout=HANGS_S)
        lines = (tmp_path / "sink.jsonl").read_bytes().splitlines()
        assert lines, run
        assert not [line for line in lines if b'"reason":"restart"' in line]
