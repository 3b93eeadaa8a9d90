"""Which Python can run the converters."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import InputMissing
from calibration.children import run_child

if TYPE_CHECKING:
    from collections.abc import Iterator

SUITABLE = ("3.12", "3.13")
"""onnx2tf 2.6 needs 3.12 or later; the pinned packages have wheels for these two."""
_MANAGED = (
    (os.environ.get("PYENV_ROOT", "~/.pyenv"), "versions/{}.*/bin/python{}"),
    (os.environ.get("UV_PYTHON_INSTALL_DIR", "~/.local/share/uv/python"), "cpython-{}.*/bin/python{}"),
)
"""Where pyenv and uv keep theirs, which need not be on PATH."""
_ASK = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
FIX = (
    "install Python 3.12 with its venv module (Ubuntu 24.04: apt install python3.12-venv; elsewhere: "
    "`uv python install 3.12` or `pyenv install 3.12`), or give one with --python PATH"
)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that answered: where it is, and its version as in "3.12.1"."""

    path: Path
    version: str


def find_python(given: Path | None = None) -> Interpreter:
    """Return `given`, else the first suitable Python of this machine. Raises InputMissing."""
    if given is not None:
        found = _asked(given)
        if found is None or not found.version:
            raise InputMissing("no Python", seen=given, fix="give the path of a Python 3.12 program")
        if not _suitable(found):
            raise InputMissing(f"{given} can't run the converters", seen=f"Python {found.version}", fix=FIX)
        return found
    for path in _candidates():
        found = _asked(path)
        if found is not None and _suitable(found):
            return found
    wanted = " or ".join(SUITABLE)
    raise InputMissing(f"the converters need Python {wanted}", seen="none on this machine", fix=FIX)


def _candidates() -> Iterator[Path]:
    yield Path(sys.executable)
    for version in SUITABLE:
        if path := shutil.which(f"python{version}"):
            yield Path(path)
        for root, pattern in _MANAGED:
            yield from sorted(Path(root).expanduser().glob(pattern.format(version, version)))


def _asked(path: Path) -> Interpreter | None:
    """Return what `path` says of itself; pyenv's shims of a version that is not in use say nothing."""
    try:
        done = run_child([path, "-Ec", _ASK])
    except OSError:
        return None
    return None if done.code else Interpreter(path, done.out.strip())


def _suitable(interpreter: Interpreter) -> bool:
    return interpreter.version.rpartition(".")[0] in SUITABLE
