"""Which backends can run: real child processes, with packages that load, fail, crash and hang."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.backends.runtimes import Trial, try_runtime, try_runtimes
from agent.backends.usable import usable_backends
from agent.hardware import Board

LOAD = 'import probed_runtime\nsay(version=probed_runtime.__version__, sm="8.7")\nprobed_runtime.start()\n'


def board(kind: str = "jetson", **more: object) -> Board:
    given = {
        "name": "a board",
        "tier": "supported",
        "tier_reason": "",
        "machine": "aarch64",
        "userland_bits": 64,
    }
    return Board(kind=kind, features=("asimd",), **{**given, **more})


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that makes the package `probed_runtime` whose start() does what is given."""

    def make(start: str, at_import: str = "") -> None:
        source = f'__version__ = "10.3.0"\n{at_import}\ndef start():\n    {start}\n'
        (tmp_path / "probed_runtime.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.syspath_prepend(tmp_path)

    return make


def test_a_runtime_that_loads(package) -> None:
    """Version and GPU are told."""
    package("pass")
    assert try_runtime("probed_runtime", LOAD) == Trial(installed=True, version="10.3.0", sm="8.7")


@pytest.mark.parametrize(
    ("start", "error"),
    [
        ("import ctypes; ctypes.string_at(0)", "it crashes when loaded (SIGSEGV)"),
        ("import os; os.abort()", "it crashes when loaded (SIGABRT)"),
        ("raise RuntimeError('no driver')", "RuntimeError: no driver"),
        ("raise SystemExit('the CUDA driver says error 100')", "the CUDA driver says error 100"),
        ("import os; os._exit(3)", "it fails when loaded"),
        ("import os; os.write(1, b'{bad json\\n{\\xff'); os._exit(3)", "it fails when loaded"),
    ],
)
def test_a_runtime_that_fails_or_crashes_is_a_reason(package, start: str, error: str) -> None:
    """Whatever happens in the child, this process goes on, and what was learned before is kept."""
    package(start)
    assert try_runtime("probed_runtime", LOAD) == Trial(
        installed=True, version="10.3.0", sm="8.7", error=error
    )


def test_a_runtime_that_hangs_is_given_up(package) -> None:
    """After the time limit the child is killed and that is the reason."""
    package("pass", at_import="import threading; threading.Event().wait()")
    trial = try_runtime("probed_runtime", LOAD, timeout_s=1.0)
    assert (trial.error, trial.tried) == ("no answer within 1 s", False)


def test_a_process_that_can_not_be_started_says_nothing_of_the_runtime(
    package, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No memory for one, or too many processes: it was not tried."""
    package("pass")
    monkeypatch.setattr("sys.executable", "/no/such/python")
    trial = try_runtime("probed_runtime", LOAD)
    assert (trial.installed, trial.tried) == (True, False)


@pytest.mark.parametrize("name", ["litert", "tflite-runtime", "tensorrt"])
def test_what_could_not_be_tried_is_neither_usable_nor_to_be_installed_again(name: str) -> None:
    """It is a state of its own."""
    trials = {"litert": ABSENT, "tflite-runtime": ABSENT, "tensorrt": ABSENT}
    trials[name] = Trial(installed=True, error="no answer within 60 s", tried=False)
    found = {backend.name: backend for backend in usable_backends(board(), trials)}[name]
    assert found.usable is None
    assert "could not be tried: no answer" in found.reason
    assert "install" not in found.fix


def test_what_is_not_installed_is_not_tried() -> None:
    """No package, no child process."""
    assert try_runtime("no_such_runtime", LOAD, timeout_s=0.0) == Trial(installed=False)


def test_litert_is_found_here() -> None:
    """The one hard dependency among the runtimes is installed and loads."""
    trial = try_runtimes()["litert"]
    assert trial.installed
    assert not trial.error
    assert trial.version


FINE = Trial(installed=True, version="2.3.0")
ABSENT = Trial(installed=False)


@pytest.mark.parametrize(
    ("at", "trials", "name", "usable", "reason", "fix"),
    [
        (board(), {"litert": FINE}, "litert", True, "", ""),
        (board(), {"litert": ABSENT}, "litert", False, "not installed", "pip install ai-edge-litert"),
        (board(userland_bits=32), {"litert": FINE}, "litert", False, "32-bit userland", "64-bit OS"),
        (board(machine="riscv64"), {"litert": FINE}, "litert", False, "no wheels for riscv64", "64-bit"),
        (board(), {"tflite-runtime": FINE}, "tflite-runtime", True, "never gives INT8", "ai-edge-litert"),
        (board(), {"tflite-runtime": ABSENT}, "tflite-runtime", False, "not installed", "not needed"),
        (board("pc"), {"tensorrt": ABSENT}, "tensorrt", False, "no Jetson", ""),
        (board(), {"tensorrt": ABSENT}, "tensorrt", False, "can't import", "--system-site-packages"),
        (board(), {"tensorrt": Trial(installed=True, version="10.3.0", sm="8.7")}, "tensorrt", True, "SM 8.7", ""),
        (board("pc"), {"tensorrt": Trial(installed=True, version="10.16.1")}, "tensorrt", True, "", ""),
        (board(), {"tensorrt": Trial(installed=True, version="8.6.2")}, "tensorrt", False, "10.3+ needed", "JetPack"),
        (board(), {"tensorrt": Trial(installed=True, version="10.3.0", error="it crashes when loaded (SIGSEGV)")},
         "tensorrt", False, "SIGSEGV", "driver"),
        (board(tier="unsupported", tier_reason="JetPack 6.1+ needed, this is 5.1.2"), {}, "tensorrt", False,
         "JetPack 6.1+ needed, this is 5.1.2", ""),
        (board(tensorrt="10.3.0.30"), None, "tensorrt", True, "not tried", ""),
        (board(), None, "tensorrt", False, "packages are not installed", "apt install"),
    ],
)  # fmt: skip
def test_each_backend_is_judged_with_reason_and_fix(
    at: Board, trials: dict[str, Trial] | None, name: str, usable: bool, reason: str, fix: str
) -> None:
    """What was found on the board and in the trial decides, and says why and what to do."""
    given = (
        None if trials is None else {"litert": ABSENT, "tflite-runtime": ABSENT, "tensorrt": ABSENT, **trials}
    )
    found = {backend.name: backend for backend in usable_backends(at, given)}[name]
    assert found.usable is usable
    assert reason in found.reason
    assert fix in found.fix


def test_litert_under_hidden_cpuinfo_runs_with_a_warning() -> None:
    """It runs, and that XNNPACK will be off is said."""
    hidden = Board(kind="raspberry-pi", name="Pi", tier="supported", tier_reason="", machine="aarch64")
    litert = usable_backends(hidden, {"litert": FINE})[0]
    assert litert.usable
    assert "XNNPACK turns itself off" in litert.reason
