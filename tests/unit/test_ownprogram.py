"""Child processes of our own: what is imported is ours, wherever they are started."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from agent.ownprogram import command_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["agent/__init__.py", "msgspec.py", "tensorrt.py"])
def test_what_lies_in_the_current_directory_is_not_imported(name: str, tmp_path: Path) -> None:
    """A folder of somebody else's, started there by root, would be his program."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("raise SystemExit('taken from the current directory')")
    command = command_of("agent.tune.child", '{"no": "question"}', str(os.getpid()))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "taken from" not in done.stderr
    assert "ValidationError" in done.stderr
