"""The converters' environments: found Pythons, made once, whole or not at all, errors in one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.errors import BadData, CannotCreate, InputMissing, ServiceAway
from calibration import environments, pythons
from calibration.children import run_child
from calibration.environments import Environment, environment
from tests.patience import HANGS_S

VERSION = "{}.{}".format(*sys.version_info[:2])
ROOT = Path(__file__).parents[3]


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder for environments, for which this Python will do; the tool has no packages."""
    monkeypatch.setenv("EDGE_CALIBRATE_TOOLS", str(tmp_path / "tools"))
    monkeypatch.setattr(pythons, "SUITABLE", (VERSION,))
    monkeypatch.setattr(environments, "WORKERS", tmp_path)
    (tmp_path / "quantizer.txt").write_text("")
    return tmp_path / "tools"


def this_python() -> Environment:
    """Return an environment that is this very Python."""
    return Environment("quantizer", Path(sys.executable), {})


class TestPython:
    def test_one_that_is_too_old_is_refused_with_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`--python` with an older Python: its version and the fix."""
        monkeypatch.setattr(pythons, "SUITABLE", ("3.99",))
        with pytest.raises(InputMissing, match=rf"Python {VERSION}\.\d+; install Python 3\.12 .*--python"):
            pythons.find_python(Path(sys.executable))

    def test_a_path_that_is_no_python_is_named(self, tmp_path: Path) -> None:
        """`--python` with a file that is not there, or no program."""
        with pytest.raises(InputMissing, match=r"no Python: .*missing"):
            pythons.find_python(tmp_path / "missing")
        with pytest.raises(InputMissing, match="no Python: /bin/false"):
            pythons.find_python(Path("/bin/false"))

    def test_none_on_the_machine_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No suitable Python anywhere: one line with the fix."""
        monkeypatch.setattr(pythons, "SUITABLE", ("3.99",))
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(InputMissing, match=r"need Python 3\.99: none on this machine; install"):
            pythons.find_python()

    def test_a_shim_that_does_not_run_is_passed_over(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Pyenv's shim of a version that is not in use is on PATH and fails."""
        monkeypatch.setattr(pythons, "SUITABLE", ("3.99", VERSION))
        shim = tmp_path / "python3.99"
        shim.write_text("#!/bin/sh\necho 'pyenv: python3.99: command not found' >&2\nexit 127\n")
        shim.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        assert pythons.find_python().version.startswith(VERSION)


class TestMaking:
    def test_it_is_made_once_and_found_again(self, tools: Path) -> None:
        """A second call installs nothing; the first clears away what a killed one left."""
        told: list[str] = []
        left = tools / ".quantizer-0123.abcd.part"
        left.mkdir(parents=True)
        made = environment("quantizer", python=Path(sys.executable), progress=told.append)
        again = environment("quantizer", python=Path(sys.executable), progress=told.append)
        assert made == again
        assert len(told) == 1
        assert not left.exists()
        script = tools.parent / "where.py"
        script.write_text("import sys; print(sys.prefix)")
        assert Path(made.run(script).strip()) == made.python.parents[1]

    def test_packages_that_cannot_be_fetched_leave_nothing_behind(
        self, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Offline: one line, what it needs, and no half of an environment."""
        (tmp_path / "quantizer.txt").write_text("no-such-package==1.0\n")
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        with pytest.raises(ServiceAway, match=r"can't install quantizer: .*connect to the network") as error:
            environment("quantizer", python=Path(sys.executable))
        assert "\n" not in str(error.value)
        assert [file.name for file in tools.iterdir()] == [".quantizer.lock"]

    def test_a_place_that_cannot_be_written_is_named(
        self, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The tools' folder is a file."""
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("EDGE_CALIBRATE_TOOLS", str(tmp_path / "file"))
        with pytest.raises(CannotCreate, match="set EDGE_CALIBRATE_TOOLS"):
            environment("quantizer", python=Path(sys.executable))


class TestRunning:
    def test_its_output_comes_back(self, tmp_path: Path) -> None:
        """Standard output is the result."""
        script = tmp_path / "worker.py"
        script.write_text("import sys; print(sys.argv[1:])")
        assert this_python().run(script, 1, tmp_path) == f"['1', '{tmp_path}']\n"

    def test_a_failure_is_its_last_line(self, tmp_path: Path) -> None:
        """Whatever chatter came before."""
        script = tmp_path / "worker.py"
        script.write_text(
            "import sys\nprint('100%|###|', file=sys.stderr)\nsys.exit('TFLite has no operator for Det')"
        )
        with pytest.raises(BadData, match=r"^quantizer failed: TFLite has no operator for Det"):
            this_python().run(script)

    def test_one_that_is_killed_is_told(self, tmp_path: Path) -> None:
        """The kernel's out-of-memory killer uses SIGKILL."""
        script = tmp_path / "worker.py"
        script.write_text("import os; os.kill(os.getpid(), 9)")
        with pytest.raises(BadData, match="killed by SIGKILL"):
            this_python().run(script)

    @pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
    def test_it_ends_with_us(self, tmp_path: Path, end: signal.Signals) -> None:
        """Whether we are killed or interrupted, no worker goes on."""
        note = tmp_path / "pid"
        child = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
        parent = (
            f"from calibration.children import run_child; run_child([{sys.executable!r}, '-c', {child!r}])"
        )
        with subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT, stderr=subprocess.DEVNULL) as ours:
            wait_until(lambda: note.is_file() and note.read_text())
            worker = int(note.read_text())
            ours.send_signal(end)
        wait_until(lambda: not alive(worker))

    def test_what_it_started_ends_with_it(self, tmp_path: Path) -> None:
        """A program that leaves a child behind, one that holds its output open: neither waited for nor left."""
        note = tmp_path / "pid"
        done = run_child(["sh", "-c", f"sleep 60 & echo $! > {note}; echo said; exit 3"])
        assert (done.code, done.out) == (3, "said\n")
        wait_until(lambda: not alive(int(note.read_text())))

    @pytest.mark.parametrize(("end", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
    def test_what_it_started_ends_with_the_command(
        self, tmp_path: Path, end: signal.Signals, code: int
    ) -> None:
        """`edge-calibrate build` is ended while a converter of several processes works."""
        note = tmp_path / "pid"
        script = (
            "import sys, calibration.build, calibration.cli\n"
            "from calibration.children import run_child\n"
            f"order = ['sh', '-c', 'sleep 60 & echo $! > {note}; wait']\n"
            "calibration.build.build = lambda *_: run_child(order)\n"
            "sys.argv = 'edge-calibrate build m.onnx --manifest m.toml --clips c --out out'.split()\n"
            "calibration.cli.main()\n"
        )
        with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.DEVNULL) as ours:
            wait_until(lambda: note.is_file() and note.read_text() and state(ours.pid) == "S")
            ours.send_signal(end)
            assert ours.wait(HANGS_S) == code
        wait_until(lambda: not alive(int(note.read_text())))


def test_an_interrupted_run_raises_nothing_else() -> None:
    """A program that is not there is an OSError, for the caller to explain."""
    with pytest.raises(OSError, match="No such file"):
        run_child(["/does/not/exist"])


def alive(pid: int) -> bool:
    """Tell whether process `pid` runs; a zombie does not."""
    return state(pid) not in {"Z", ""}


def state(pid: int) -> str:
    """Return a letter for what process `pid` does, S while it waits; nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def wait_until(condition: object, within_s: float = HANGS_S) -> None:
    """Poll `condition` until it holds."""
    assert callable(condition)
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.05)
