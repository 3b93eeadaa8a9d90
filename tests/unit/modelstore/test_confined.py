"""Children that do what they like: each is ended and told in a line, and this process lives."""

from __future__ import annotations

import sys

import pytest

from agent.errors import BadData, TryAgain
from agent.modelstore.confined import Bounds, run_confined
from tests.patience import HANGS_S

BOUNDS = Bounds(rss_bytes=200 << 20, wall_s=HANGS_S)


def run(program: str, bounds: Bounds = BOUNDS) -> bytes:
    """Run a Python program."""
    return run_confined([sys.executable, "-c", program], bounds, lambda _: None)


def test_the_output_of_a_good_child_comes_back() -> None:
    """What it says on standard error is nobody's business."""
    assert run("import sys; print('good'); sys.stderr.write('chatter')") == b"good\n"


CRASHES = {
    "a segmentation fault": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    "an abort": ("import os; os.abort()", "SIGABRT"),
    "an exit": ("raise SystemExit(3)", "exit code 3"),
    "words": ("raise SystemExit('it is all wrong')", "it is all wrong"),
    "processor time": (
        "import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 5))\nwhile True: pass",
        "it spins",
    ),
    "a gigabyte of text": (
        "import sys\nwhile True: sys.stdout.write('x' * 65536)",
        "printed too much: more than 1024 KiB",
    ),
    "a gigabyte of chatter": ("import sys\nwhile True: sys.stderr.write('x' * 65536)", "printed too much"),
    "8 GB": (
        "import time\nkept = []\nwhile len(kept) < 800: kept.append(b'x' * 10_000_000); time.sleep(0.01)",
        "too much memory: more than 200 MiB",
    ),
}


@pytest.mark.parametrize("kind", CRASHES)
def test_a_child_that_fails_is_told(kind: str) -> None:
    """In one line."""
    program, words = CRASHES[kind]
    with pytest.raises(BadData, match=words) as fault:
        run(program)
    assert "\n" not in str(fault.value)


def test_a_child_that_sleeps_is_ended() -> None:
    """After the time that it may take."""
    with pytest.raises(BadData, match="no end: within 1 s"):
        run("import time; time.sleep(3600)", Bounds(rss_bytes=1 << 30, wall_s=1.0))


def test_what_a_child_leaves_behind_is_ended_and_told() -> None:
    """Processes of its session, also those that hold its output open."""
    with pytest.raises(BadData, match="left processes behind"):
        run("import os, time\nif os.fork() == 0: time.sleep(3600)")


def test_no_process_is_no_fault_of_the_model() -> None:
    """It may be tried again."""
    with pytest.raises(TryAgain, match="no process"):
        run_confined(["/no/such/program"], BOUNDS, lambda _: None)


def test_a_child_that_is_killed_is_no_fault_of_the_model() -> None:
    """Nothing but the kernel does that where memory is short, and it takes a trial first, whoever has it."""
    with pytest.raises(TryAgain, match="was killed"):
        run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")


def test_no_memory_left_is_no_fault_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the device has none for anybody."""
    monkeypatch.setattr("agent.modelstore.confined.read_system_bytes", lambda: (1 << 30, 1 << 20))
    with pytest.raises(TryAgain, match="not enough memory"):
        run("import time; time.sleep(3600)")
