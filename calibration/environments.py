"""The converters' own Python environments: pinned, made once on this machine, whole or not at all.

onnx2tf and litert-quantizer need versions of LiteRT and NumPy that exclude each other and ours, and both need
Python 3.12. So each runs in a virtual environment of its own, of exactly the packages in `workers/<tool>.txt`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agent.errors import BadData, CannotCreate, ServiceAway
from calibration.children import run_child
from calibration.pythons import Interpreter, find_python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Tool = Literal["onnx2tf", "quantizer"]

WORKERS = Path(__file__).parent / "workers"
"""The scripts that run in these environments, and their lists of packages."""
_OFFLINE = ("connection", "name resolution", "timed out", "no route to host", "unreachable", "offline")


@dataclass(frozen=True, slots=True)
class Environment:
    """One tool's environment. `versions` are those of Python and of every package in it."""

    tool: Tool
    python: Path
    versions: dict[str, str]

    def run(self, script: Path, *args: object) -> str:
        """Run `script` in it and return what it wrote to standard output.

        The script ends with this process, however that ends. Raises BadData with the last line it wrote to
        standard error when it fails.
        """
        done = run_child([self.python, "-Es", script, *args])
        if done.code:
            raise BadData(f"{self.tool} failed", seen=done.last_error, fix="see the lines above it with -v")
        return done.out


def tools_folder() -> Path:
    """Return where the environments are: $EDGE_CALIBRATE_TOOLS, else in the user's cache."""
    if chosen := os.environ.get("EDGE_CALIBRATE_TOOLS"):
        return Path(chosen).absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "edge-agent" / "tools"


def environment(
    tool: Tool, *, python: Path | None = None, progress: Callable[[str], None] | None = None
) -> Environment:
    """Return the environment of `tool`, made by `python` (else the best found) unless it is there already.

    `progress` is told when something has to be installed. Raises InputMissing without a suitable Python,
    ServiceAway when the packages can't be fetched, CannotCreate when there is no room for them.
    """
    pins = (WORKERS / f"{tool}.txt").read_text(encoding="utf-8")
    interpreter = find_python(python)
    key = hashlib.sha256(f"{interpreter.path}\n{interpreter.version}\n{pins}".encode()).hexdigest()
    folder = tools_folder() / f"{tool}-{key[:12]}"
    if not folder.is_dir():
        if progress:
            progress(f"installing {tool} for Python {interpreter.version} (once, some minutes): {folder}")
        _make(folder, tool, interpreter)
    packages = dict(line.split("==") for line in pins.splitlines() if "==" in line)
    return Environment(tool, folder / "bin" / "python", {"python": interpreter.version, **packages})


def _make(folder: Path, tool: Tool, interpreter: Interpreter) -> None:
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.parent / f".{tool}.lock"):
            for left in folder.parent.glob(f".{tool}-*.part"):  # of one that was killed
                shutil.rmtree(left)
            if not folder.is_dir():
                _install(part, tool, interpreter)
                part.replace(folder)
    except OSError as error:
        fix = "set EDGE_CALIBRATE_TOOLS to a folder on a disk with 2 GB of room"
        raise CannotCreate(f"can't install {tool} in {folder.parent}", seen=error.strerror, fix=fix) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _install(folder: Path, tool: Tool, interpreter: Interpreter) -> None:
    made = run_child([interpreter.path, "-m", "venv", folder])
    if made.code:
        short = ".".join(interpreter.version.split(".")[:2])
        fix = f"install its venv module (Debian, Ubuntu: apt install python{short}-venv), or give --python"
        raise ServiceAway(f"{interpreter.path} can't make an environment", seen=made.last_error, fix=fix)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--no-input", "--retries", 1]
    options = [
        "--quiet",
        "--no-deps",
        "--disable-pip-version-check",
        "--requirement",
        WORKERS / f"{tool}.txt",
    ]
    installed = run_child([*pip, *options])
    if not installed.code:
        return
    if "No space left" in installed.errors:
        raise OSError(28, "No space left on device")
    away = any(word in installed.errors.lower() for word in _OFFLINE)
    seen = "no connection to the package index" if away else installed.last_error
    fix = (
        "this is needed once: connect to the network, set PIP_INDEX_URL to a mirror, "
        "or PIP_FIND_LINKS to a folder of wheels and PIP_NO_INDEX=1"
    )
    raise ServiceAway(f"can't install {tool}", seen=seen, fix=fix)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process makes this tool's environment."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
