"""TensorRT-RTX, whose builder runs without a GPU: fetched once into a folder of its own, used in a child process.

Run as a program it builds each ONNX file it is given by the agent's own code, and prints what came of it as a
line of JSON: `{"file", "outputs", "batch", "plan_bytes", "shares", "error"}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from agent.backends.tensorrt.build import build_engine
from agent.errors import AgentError

VERSION = "1.7.1.116"
_PACKAGES = [f"tensorrt-rtx-cu13-{part}=={VERSION}" for part in ("libs", "bindings")]
_WORKSPACE_BYTES = 1 << 30
_BUILD_S = 600
_FETCH_S = 600


def build(*files: Path) -> list[dict[str, Any]]:
    """Return what came of building each of `files`, in a child. Skips the test where there is no TensorRT-RTX."""
    folder, missing = _fetched()
    if missing:
        pytest.skip(missing)
    done = subprocess.run(
        [sys.executable, "-m", "tests.contract.rtx", *map(str, files)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(Path(__file__).parents[2])])},
        capture_output=True,
        text=True,
        timeout=_BUILD_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@cache
def _fetched() -> tuple[Path, str]:
    """Return where TensorRT-RTX is, in the user's cache, 240 MB, and why it is not there; asked for once a run."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-agent" / "tests"
    folder = cache / f"tensorrt-rtx-{VERSION}-py{sys.version_info[0]}.{sys.version_info[1]}"
    if platform.machine() != "x86_64":
        return folder, f"TensorRT-RTX has no wheels for {platform.machine()}"
    if folder.is_dir():
        return folder, ""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        part = Path(scratch) / "part"
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-input", "--retries", "1"]
        command = [*pip, "--target", str(part), *_PACKAGES]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_S, check=False)
        except subprocess.TimeoutExpired:
            return folder, f"TensorRT-RTX can't be fetched (95 MB): no end within {_FETCH_S} s"
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
            return folder, f"TensorRT-RTX can't be fetched (95 MB): {last}"
        with contextlib.suppress(OSError):  # another test run was quicker
            part.rename(folder)
    return folder, ""


def _built(trt: Any, file: Path) -> dict[str, Any]:
    shares: list[float] = []
    try:
        built = build_engine(
            trt,
            file,
            workspace_bytes=_WORKSPACE_BYTES,
            batch=4,
            progress=lambda share, _: shares.append(share),
        )
    except AgentError as fault:
        return {"file": str(file), "error": str(fault)}
    told = {"outputs": built.outputs, "batch": built.batch, "plan_bytes": len(built.plan)}
    return {"file": str(file), **told, "shares": shares, "error": ""}


if __name__ == "__main__":
    import tensorrt_rtx_bindings

    for name in sys.argv[1:]:
        print(json.dumps(_built(tensorrt_rtx_bindings, Path(name))), flush=True)
