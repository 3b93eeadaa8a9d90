"""The shell of the command lines: what a missing package is told as."""

from __future__ import annotations

import subprocess
import sys

from tests.patience import HANGS_S

PROGRAM = """\
import click
from agent.cli.shell import run

@click.command()
def command():
    import not_installed_here

run(command, "edge-calibrate", extra={extra!r})
"""


def told(extra: str) -> tuple[int, str]:
    """Run a command that imports what is not there; return code and last words."""
    command = [sys.executable, "-c", PROGRAM.format(extra=extra)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS_S, check=False)
    return done.returncode, done.stderr.strip()


def test_a_missing_package_names_the_extra() -> None:
    """One line with the command to install it, and code 66; without an extra it is a fault of ours."""
    code, words = told("calibration")
    assert (code, words.count("\n")) == (66, 0)
    assert words.endswith("not_installed_here is not installed; pip install 'edge-agent[calibration]'")
    assert words.startswith("edge-calibrate: error: ")
    assert told("")[0] == 70
