"""`edge-agent config` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import HANGS_S

ROOT = Path(__file__).parents[2]


def edge_agent(*args: object, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    command = [sys.executable, "-m", "agent", "config", *map(str, args)]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("EDGE_AGENT")}
    return subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
        env={**clean, **env},
    )


def test_the_example_is_shown_as_it_is_in_force(tmp_path: Path) -> None:
    """Example to file, file to show, show to file: the same again, with every default."""
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    first.write_text(edge_agent("example").stdout)
    shown = edge_agent("show", "--config", first)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "keepalive_s = 30" in shown.stdout
    second.write_text(shown.stdout)
    again = edge_agent("show", EDGE_AGENT_CONFIG=str(second))
    assert again.stdout == shown.stdout


def test_the_schema_is_json() -> None:
    """One document, nothing else."""
    done = edge_agent("schema")
    assert json.loads(done.stdout)["$defs"]["CameraConfig"]["additionalProperties"] is False
    assert (done.returncode, done.stderr) == (0, "")


def test_a_login_is_not_shown(tmp_path: Path) -> None:
    """A private file may hold one; nobody sees it."""
    path = tmp_path / "c.toml"
    path.write_text('[[camera]]\nname = "yard"\nsource = "rtsp://admin:hunter2@cam/2"\n')
    path.chmod(0o640)
    done = edge_agent("show", "--config", path)
    assert done.returncode == 0
    assert "rtsp://***@cam/2" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


def test_a_password_with_blanks_is_refused_and_not_shown(tmp_path: Path) -> None:
    """It is no URL; in a file that everybody may read it would not be noticed as a login."""
    path = tmp_path / "c.toml"
    path.write_text('[[camera]]\nname = "yard"\nsource = "rtsp://admin:my hunter2 word@cam/2"\n')
    done = edge_agent("show", "--config", path)
    assert (done.returncode, done.stdout) == (78, "")
    assert "%20" in done.stderr
    assert "rtsp://***@cam/2" in done.stderr
    assert not any(word in done.stderr for word in ("my", "hunter2", "word@"))


def test_a_user_without_a_home(tmp_path: Path) -> None:
    """As in a container: one line with the fix, and none is needed where the state directory is set."""
    path = tmp_path / "c.toml"
    script = (
        "import os, sys; os.environ.pop('HOME', None); os.environ.pop('XDG_STATE_HOME', None);"
        "os.environ.pop('STATE_DIRECTORY', None); import agent.cli as a, pathlib;"
        "import pwd; pwd.getpwuid = lambda uid: (_ for _ in ()).throw(KeyError(uid));"
        "sys.argv = ['edge-agent', *sys.argv[1:]]; a.main()"
    )
    command = [sys.executable, "-c", script, "config", "show", "--config", str(path)]
    for more, code, words in (("", 2, "set $HOME"), ('state_dir = "/var/lib/x"\n', 0, "")):
        path.write_text(f'{more}[[camera]]\nname = "yard"\nsource = "a.mp4"\n')
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS_S, check=False)
        assert done.returncode == code, done.stderr
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == (code != 0)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (None, 66, "no such file"),
        ('[[camera]]\nname = "a/b"\nsource = "x"\n', 78, "camera.name"),
        ('[[camera]]\nname = "a"\nsorce = "x"\n', 78, 'did you mean "source"?'),
        ("[[camera]\n", 78, "line 1"),
    ],
)
def test_a_bad_file_is_one_line(text: str | None, code: int, words: str, tmp_path: Path) -> None:
    """With the exit code of README."""
    path = tmp_path / "config.toml"
    if text is not None:
        path.write_text(text)
    done = edge_agent("show", "--config", path)
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("edge-agent: error: ")
    assert words in done.stderr
