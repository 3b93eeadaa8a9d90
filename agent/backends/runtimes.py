"""The runtimes of this Python, looked for or tried: in a child process, whose crash or hang is only a reason."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

TRIAL_TIMEOUT_S = 60.0
"""An SD card that was never read takes many seconds to import NumPy."""


class Trial(msgspec.Struct, frozen=True):
    """How it went to load a runtime: `installed` says whether there is one at all, `error` is "" when it went well.

    One that was only looked for has no `error`.

    `tried` is False when nothing is known: no process could be started, or it gave no answer.
    `sm` is the compute capability of the GPU it found.
    """

    installed: bool
    version: str | None = None
    error: str = ""
    tried: bool = True
    sm: str | None = None


_START = f"""
import json, sys
sys.path[:] = [place for place in sys.path if place]
sys.path.append({str(Path(__file__).parents[2])!r})
def say(**words): print(json.dumps(words), flush=True)
"""
_LOAD_TFLITE = """
import importlib.metadata
import {module}.interpreter
say(version=importlib.metadata.version("{package}"))
"""
# The driver first: TensorRT's lean runtime crashes without one.
_LOAD_TENSORRT = """
import tensorrt
say(version=tensorrt.__version__)
from agent.backends.cuda import open_cuda
from agent.errors import AgentError
try:
    cuda = open_cuda()
except AgentError as fault:
    raise SystemExit(str(fault))
say(sm=cuda.sm)
cuda.close()
tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))
"""
_SCRIPTS = {
    "litert": ("ai_edge_litert", _LOAD_TFLITE.format(module="ai_edge_litert", package="ai-edge-litert")),
    "tflite-runtime": (
        "tflite_runtime",
        _LOAD_TFLITE.format(module="tflite_runtime", package="tflite-runtime"),
    ),
    "tensorrt": ("tensorrt", _LOAD_TENSORRT),
}


_PACKAGES = {"litert": "ai-edge-litert", "tflite-runtime": "tflite-runtime"}
"""The distributions of the runtimes that are found without being loaded."""


def try_runtimes() -> dict[str, Trial]:
    """Try every runtime, side by side; those that are not installed cost nothing."""
    with ThreadPoolExecutor(len(_SCRIPTS)) as pool:
        trials = pool.map(lambda script: try_runtime(*script), _SCRIPTS.values())
        return dict(zip(_SCRIPTS, trials, strict=True))


def find_runtimes() -> dict[str, Trial]:
    """Look for the runtimes, as every start does: only TensorRT, where it is installed, costs a child process."""
    found = {name: _look_for(_SCRIPTS[name][0], package) for name, package in _PACKAGES.items()}
    return {**found, "tensorrt": try_runtime(*_SCRIPTS["tensorrt"])}


def _look_for(module: str, package: str) -> Trial:
    try:
        if importlib.util.find_spec(module) is None:
            return Trial(installed=False)
        return Trial(installed=True, version=importlib.metadata.version(package))
    except (ImportError, ValueError, OSError) as error:
        return Trial(installed=True, error=_short(error))


def try_runtime(module: str, script: str, *, timeout_s: float = TRIAL_TIMEOUT_S) -> Trial:
    """Load `module` by `script` in a child of this Python, and say how it went."""
    try:
        if importlib.util.find_spec(module) is None:
            return Trial(installed=False)
    except (ImportError, ValueError, OSError) as error:
        return Trial(installed=True, error=_short(error))
    command = [sys.executable, "-c", _START + script]
    try:
        done = subprocess.run(  # noqa: S603  our own Python and script
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return Trial(installed=True, error=f"no answer within {timeout_s:g} s", tried=False)
    except OSError as error:
        return Trial(installed=True, error=f"no process: {error.strerror}", tried=False)
    said = _said(done.stdout)
    return Trial(installed=True, version=said.get("version"), sm=said.get("sm"), error=_fault(done))


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:160]


def _said(stdout: bytes) -> dict[str, str]:
    """Return all that the child told before it ended, however it ended."""
    words: dict[str, str] = {}
    for line in stdout.decode(errors="replace").splitlines():
        if line.startswith("{"):
            try:
                words.update({key: str(value) for key, value in json.loads(line).items()})
            except ValueError:
                continue
    return words


def _fault(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode == 0:
        return ""
    if done.returncode < 0:
        try:
            name = signal.Signals(-done.returncode).name
        except ValueError:
            name = str(-done.returncode)
        return f"it crashes when loaded ({name})"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return "".join(c for c in (lines[-1] if lines else "it fails when loaded") if c.isprintable())[:160]
