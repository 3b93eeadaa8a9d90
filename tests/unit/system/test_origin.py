"""Where the agent lies that is to be the service."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agent.errors import BadConfig, InputMissing
from agent.system import origin
from agent.system.plan import DEFAULT_PROGRAM


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the program of an agent that is installed below tmp_path and runs now."""
    script = tmp_path / "card/opt/agent/bin/edge-agent"
    script.parent.mkdir(parents=True)
    script.touch()
    for step in (script, *script.parents[:4]):
        step.chmod(0o755)
    monkeypatch.setattr(sys, "prefix", str(script.parents[1]))
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(origin.agent, "__file__", str(script))
    return script


def test_what_the_unit_hides_can_not_be_run(installed: Path) -> None:
    """A virtual environment in somebody's home, or in /tmp as here."""
    with pytest.raises(BadConfig, match=r"can't see /tmp.*/opt/edge-agent"):
        origin.program(Path("/"))


def test_what_others_may_not_read_can_not_be_run(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed under a strict umask; the fault names the folder and the command that mends it."""
    monkeypatch.setattr(origin, "_HIDDEN", ())
    monkeypatch.setattr(Path, "parents", property(lambda path: (path.parent,)))
    assert origin.program(Path("/")) == str(installed)
    installed.parent.chmod(0o700)
    with pytest.raises(
        BadConfig, match=rf"mode 700 of {installed.parent}; chmod -R a\+rX {installed.parent}"
    ):
        origin.program(Path("/"))


def test_an_agent_on_the_mounted_system_is_named_as_that_system_sees_it(
    installed: Path, tmp_path: Path
) -> None:
    """Run from outside, or in a chroot of it."""
    assert origin.program(tmp_path / "card") == "/opt/agent/bin/edge-agent"


def test_an_agent_beside_the_mounted_system_is_not_named(installed: Path, tmp_path: Path) -> None:
    """There it will be where the unit says."""
    (tmp_path / "other").mkdir()
    assert origin.program(tmp_path / "other") == DEFAULT_PROGRAM


def test_without_a_program_of_its_own(installed: Path) -> None:
    """An agent that was started as `python -m agent` from a bare checkout."""
    installed.unlink()
    with pytest.raises(InputMissing, match="python3 -m venv /opt/edge-agent"):
        origin.program(Path("/"))


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the program of a release below tmp_path that runs now, while `current` still leads to another."""
    script = tmp_path / "card/opt/edge-agent/versions/1.0-abc/bin/edge-agent"
    script.parent.mkdir(parents=True)
    script.touch()
    (tmp_path / "card/opt/edge-agent/current").symlink_to("versions/0.9-def")
    monkeypatch.setattr(sys, "prefix", str(script.parents[1]))
    monkeypatch.setattr(origin, "_check_reach", lambda _: None)
    return script


def test_a_release_is_named_by_the_link(release: Path, tmp_path: Path) -> None:
    """Wherever it leads now: switching releases is to change the link, and no unit."""
    assert origin.program(Path("/")) == str(tmp_path / "card/opt/edge-agent/current/bin/edge-agent")
    assert origin.program(tmp_path / "card") == "/opt/edge-agent/current/bin/edge-agent"
    (tmp_path / "card/opt/edge-agent/current").unlink()
    assert origin.program(tmp_path / "card") == "/opt/edge-agent/current/bin/edge-agent"


def test_a_release_that_runs_by_the_link(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should Python tell the prefix by the link, the unit says the same."""
    link = tmp_path / "card/opt/edge-agent/current"
    link.unlink()
    link.symlink_to("versions/1.0-abc")
    monkeypatch.setattr(sys, "prefix", str(link))
    assert origin.program(Path("/")) == str(link / "bin/edge-agent")
    assert origin.program(tmp_path / "card") == "/opt/edge-agent/current/bin/edge-agent"
