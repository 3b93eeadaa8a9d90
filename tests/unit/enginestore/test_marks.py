"""Marks of engines at work: those of starts that died are counted, those of processes that live are not."""

from __future__ import annotations

import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from agent.enginestore import marks, proving
from agent.enginestore.proving import ProvenEngine
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from pathlib import Path

_START = "import sys; from pathlib import Path; from agent.enginestore import marks; marks.set_mark(Path(sys.argv[1]));"


def start(folder: Path, then: str) -> subprocess.Popen[str]:
    """Start a process that marks the engine in `folder`, and does `then`."""
    command = [sys.executable, "-c", _START + then, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def die(folder: Path) -> None:
    with start(folder, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)") as child:
        assert child.wait(HANGS_S) == -signal.SIGSEGV


def test_a_start_that_dies_leaves_its_mark(tmp_path: Path) -> None:
    """Each counts, until the engine has worked."""
    for count in (1, 2):
        die(tmp_path)
        assert marks.deaths(tmp_path) == count
    mark = marks.set_mark(tmp_path)
    assert mark is not None
    assert marks.deaths(tmp_path) == 2
    marks.clear(mark)
    assert [*tmp_path.iterdir()] == []


def test_a_process_that_lives_is_no_death(tmp_path: Path) -> None:
    """Nor is it touched by another one's good end."""
    with start(tmp_path, "print('there', flush=True); sys.stdin.read()") as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "there\n"
        mark = marks.set_mark(tmp_path)
        assert mark is not None
        assert marks.deaths(tmp_path) == 0
        marks.clear(mark)
        assert marks.deaths(tmp_path) == 0
        other.kill()
        other.wait(HANGS_S)
    assert marks.deaths(tmp_path) == 1


def test_without_a_folder_nothing_is_noted(tmp_path: Path) -> None:
    """The engine runs all the same."""
    assert marks.set_mark(tmp_path / "gone") is None
    assert marks.deaths(tmp_path / "gone") == 0


@pytest.mark.parametrize("runs", [0, 3])
def test_a_mark_goes_when_the_engine_has_worked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: int
) -> None:
    """After so many good runs, or at its end."""
    monkeypatch.setattr(proving, "RUNS", 3)
    mark = marks.set_mark(tmp_path)
    assert mark is not None
    inner = SimpleNamespace(infer_batch=lambda tensors: [(each,) for each in tensors], close=lambda: None)
    engine = ProvenEngine(inner, mark)
    for number in range(runs):
        assert mark.exists(), number
        engine.infer(np.zeros(1))
    assert mark.exists() == (runs == 0)
    engine.close()
    assert not mark.exists()


def test_a_run_that_fails_is_no_good_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it raises is for those who distrust it."""
    monkeypatch.setattr(proving, "RUNS", 1)
    mark = marks.set_mark(tmp_path)
    assert mark is not None

    def fail(tensors: object) -> object:
        raise RuntimeError

    engine = ProvenEngine(SimpleNamespace(infer_batch=fail, close=lambda: None), mark)
    with pytest.raises(RuntimeError):
        engine.infer(np.zeros(1))
    assert mark.exists()
    engine.close()
