"""Booted hosts for tests leave nothing behind: what undoes them, with no host booted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.hosts.base import Base
from tests.hosts.host import Host
from tests.hosts.possible import why_not
from tests.hosts.undoing import call, held_back, undoing
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
INTERRUPTED_TWICE = """\
import contextlib, os, pathlib, signal
import pytest
from tests.hosts.undoing import undoing

@pytest.fixture(scope="module")
def host():
    with undoing() as stack:
        stack.callback(pathlib.Path(os.environ["UNDONE"]).touch)
        yield

@pytest.fixture
def impatient(host):
    yield
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)

def test_it(impatient):
    os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Have Ctrl-C raise KeyboardInterrupt: what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("began", ["by itself", "by a fault", "by Ctrl-C"])
def test_ctrl_c_does_not_cut_it_short(began: str) -> None:
    """Each step is done whole, and the ones after it too; then it is told, and others handle it again."""
    done: list[str] = []
    before = signal.getsignal(signal.SIGINT)

    def step() -> None:
        interrupt()
        done.append("second")

    with pytest.raises(KeyboardInterrupt), undoing() as stack:  # noqa: PT012
        stack.callback(done.append, "third")
        stack.callback(step)
        stack.callback(done.append, "first")
        if began == "by a fault":
            raise ValueError
        if began == "by Ctrl-C":
            interrupt()
            done.append("never")
    assert done == ["first", "second", "third"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_step_that_fails_keeps_no_other_from_being_done() -> None:
    """What failed is told in the end."""
    done: list[str] = []
    with pytest.raises(subprocess.CalledProcessError), undoing() as stack:  # noqa: PT012
        stack.callback(done.append, "second")
        stack.callback(call, "false")
        stack.callback(done.append, "first")
    assert done == ["first", "second"]


def test_what_is_undone_within_is_no_end_of_what_is_around_it() -> None:
    """A second Ctrl-C is ignored until all is undone."""
    done: list[str] = []

    def step() -> None:
        interrupt()
        done.append("outer")

    with pytest.raises(KeyboardInterrupt), undoing() as outer:  # noqa: PT012
        outer.callback(step)
        inner = outer.enter_context(undoing())
        inner.callback(done.append, "inner")
        interrupt()
    assert done == ["inner", "outer"]


def test_what_must_not_be_done_by_half_is_done_first() -> None:
    """A program that was started is known to those who have to end it."""
    done = []
    with pytest.raises(KeyboardInterrupt), held_back():  # noqa: PT012
        interrupt()
        done.append("whole")
    assert done == ["whole"]


def test_pytest_that_is_interrupted_twice_still_undoes_it(tmp_path: Path) -> None:
    """By itself it leaves fixtures as they are at the second Ctrl-C."""
    (tmp_path / "test_it.py").write_text(INTERRUPTED_TWICE, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "test_it.py")]
    environment = {**os.environ, "UNDONE": str(tmp_path / "undone"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=HANGS_S, check=False
    )
    assert (tmp_path / "undone").exists(), done.stdout
    assert done.returncode == pytest.ExitCode.INTERRUPTED, done.stdout


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Return a host of an empty system."""
    parts = [tmp_path / name for name in ("system", "agent", "lab")]
    for part in parts:
        (part / "etc").mkdir(parents=True)
    return Host("h1", tmp_path / "h1", Base(*parts))


def test_a_host_that_has_no_systemd_yet_is_switched_off(host: Host) -> None:
    """Interrupted while it was being switched on: nothing of it goes on."""
    host._nspawn = subprocess.Popen(["sleep", "infinity"], start_new_session=True)
    host.poweroff()
    assert not host.is_on


@pytest.mark.parametrize("at", ["mount", "netns", "lo"])
def test_a_host_that_is_plugged_in_by_half_is_taken_away(
    host: Host, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Ctrl-C right behind a step, before anybody knows that it was done."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    if refused := why_not():
        pytest.skip(f"hosts can't be booted here: {refused}")

    def call_and_interrupt(*command: str) -> None:
        call(*command)
        if at in command:
            interrupt()

    monkeypatch.setattr("tests.hosts.host.call", call_and_interrupt)
    with pytest.raises(KeyboardInterrupt), host.plugged_in():
        pytest.fail("it was not interrupted")
    assert not host.root.is_mount()
    assert not (Path("/run/netns") / host.network).exists()
    assert not any(group.exists() for group in host._groups)
