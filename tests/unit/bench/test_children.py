"""What is measured in processes of its own."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from agent.bench.cameras import Task, in_child
from agent.bench.children import ask, start_agent
from agent.bench.first import tell_first
from agent.errors import IOFault
from agent.starter import sample_clip, starter_bundle


def test_the_first_call_alone_is_noted(tmp_path: Path) -> None:
    """And every call still does its work."""
    told = tmp_path / "first"
    work = tell_first(told, lambda *args: sum(args))
    before_s = time.monotonic()
    assert work(1, 2) == 3
    first = told.read_text()
    assert before_s <= float(first) <= time.monotonic()
    assert work(3, 4) == 7
    assert told.read_text() == first


def test_the_agent_is_started_for_real() -> None:
    """Start-up takes some time, and its memory is not this process's."""
    start = start_agent(sample_clip(), starter_bundle(), threads=1, stay_s=0.5)
    assert 0.1 < start.first_inference_s < 60
    if sys.platform == "linux":
        assert 30 < (start.peak_rss_mb or 0) < 400


def test_an_agent_that_fails_says_why(tmp_path: Path) -> None:
    """Its own last line."""
    with pytest.raises(IOFault, match="no such file"):
        start_agent(tmp_path / "none.mp4", starter_bundle(), threads=1, stay_s=0.0)


def test_cameras_in_a_process_of_their_own() -> None:
    """Each is counted, and the memory is that process's."""
    task = Task(str(starter_bundle()), 1, str(sample_clip()), 2, 60.0, 1.0)
    run = in_child(task)
    assert len(run.per_camera) == 2
    assert sum(run.per_camera) == run.inferred > 0
    assert 0 < run.fairness <= 1
    assert run.wall_s >= 1.0


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    """The line of the error, not a traceback."""
    with pytest.raises(IOFault, match="bundle") as caught:
        in_child(Task(str(tmp_path / "none"), 1, str(sample_clip()), 1, 10.0, 0.1))
    assert "Traceback" not in str(caught.value)


def test_a_process_that_hangs_is_ended() -> None:
    """`timeit` would run for hours."""
    with pytest.raises(IOFault, match="does not end"):
        ask("timeit", "while True: pass", limit_s=0.5)
