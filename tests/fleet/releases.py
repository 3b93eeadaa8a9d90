"""Releases for tests, by `edge-agent fleet pack`: this tree, the same with another number, and broken ones."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.hosts.base import PYTHON, ROOT, copy_source, kept, or_skip

_ENGINE = "agent/backends/tflite.py"
_LATE = """

_infer, _count = TFLiteEngine.infer, [0]


def _late(self, tensor):
    import time

    _count[0] += 1
    if _count[0] > {after}:
        time.sleep({seconds})
    return _infer(self, tensor)


TFLiteEngine.infer = _late
"""
_DEAD = """

def _dead(**_given):
    raise SystemExit(1)


run.callback = _dead
"""
SLOW = {_ENGINE: _LATE.format(after=0, seconds=0.3)}
"""Each inference takes many times longer."""
SILENT = {_ENGINE: _LATE.format(after=2, seconds=5)}
"""It starts, and then hardly infers."""
DEAD = {"agent/cli/run.py": _DEAD}
"""Its program can be called; the service ends at the start."""


class Releases:
    """Makes releases below `folder`; the wheels that they need are fetched once, and kept beside the hosts' base."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, version: str, patches: dict[str, str] | None = None) -> Path:
        """Return a release of this tree as `version`, with the texts of `patches` after those files of it."""
        source = self._folder / f"source-{version}"
        copy_source(source)
        for name in ("pyproject.toml", "agent/__init__.py"):
            text = (source / name).read_text()
            assert '"0.1.0"' in text
            (source / name).write_text(text.replace('"0.1.0"', f'"{version}"', 1))
        for name, more in (patches or {}).items():
            with (source / name).open("a") as file:
                file.write(more)
        wheels = self._wheels(source)
        return self._pack(source, "--offline", str(wheels))

    def _wheels(self, source: Path) -> Path:
        """Return the folder of the wheels that are needed, and of what builds the agent's own."""
        needs = (source / "pyproject.toml").read_text().partition("\ndependencies = [")[2].partition("\n]")[0]
        digest = hashlib.sha256(needs.encode()).hexdigest()[:8]
        wheels = kept() / f"release-wheels-{digest}-{PYTHON}"
        if not wheels.exists():
            packed = self._pack(source)
            part = wheels.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(packed / "wheels", part)
            for own in part.glob("edge_agent-*.whl"):
                own.unlink()
            pip = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps", "--dest", str(part)]
            or_skip([*pip, "setuptools>=77"])
            part.rename(wheels)
        return wheels

    def _pack(self, source: Path, *options: str) -> Path:
        target = ("--python", PYTHON, "--platform", "x86_64")
        command = [
            sys.executable,
            "-m",
            "agent",
            "fleet",
            "pack",
            "--out",
            str(self._folder),
            *target,
            *options,
        ]
        done = subprocess.run(
            [*command, "--json", str(source)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return Path(json.loads(done.stdout)["path"])
