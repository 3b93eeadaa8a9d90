"""Getting the wheels of a release: the agent's own from its source, the others by pip for each target."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import BadData, CannotCreate, InputMissing, UsageError
from agent.fleet.wheel import canonical
from agent.ownprogram import command_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.fleet.release import Target

GLIBC_MINORS = {"3.10": 35, "3.11": 36, "3.12": 39, "3.13": 41}
"""glibc 2.x of the system that a Python comes with: Ubuntu 22.04, Debian 12, Ubuntu 24.04, Debian 13."""
MACHINES = ("aarch64", "x86_64")
_OLDEST_GLIBC_MINOR = 17
_NUMPY_ONE = ("3.10", "3.11", "3.12")
"""Pythons of systems whose picamera2, OpenCV and TensorRT tools are built for NumPy 1: a 2 before them breaks these."""
SOURCE = (
    "agent",
    "calibration",
    "models",
    "systemd",
    "tests/data/sample",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)
"""What the wheel is built from."""
_BUILT_AT = "315532800"
"""1980-01-01, the oldest time that a zip can hold: the same source gives the same wheel."""
_TIMEOUT_S = 3600.0
_SHOWN = 4


def build_own(source: Path, into: Path, *, offline: Path | None) -> Path:
    """Return the wheel of the checkout `source`, built in `into`; a wheel is copied there.

    Without a network the build takes setuptools from the folder `offline`. Raises InputMissing, BadData.
    """
    into.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".whl":
        if not source.is_file():
            raise InputMissing("no such wheel", seen=source, fix="give a wheel or a checkout of edge-agent")
        return Path(shutil.copy(source, into))
    if missing := [name for name in SOURCE if not (source / name).exists()]:
        raise InputMissing(
            "no checkout of edge-agent", seen=f"{source} without {missing[0]}", fix="give its folder"
        )
    copy = into / "source"
    for name in SOURCE:
        _copy(source / name, copy / name)
    settings = {"SOURCE_DATE_EPOCH": _BUILT_AT}
    fault = _run_pip(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            *_from(offline),
            "--no-deps",
            f"--wheel-dir={into}",
            str(copy),
        ],
        settings=settings,
    )
    if fault:
        fix = "an offline folder needs setuptools 77 or newer" if offline else "look at what pip says"
        raise BadData("the agent's wheel can't be built", seen=fault, fix=fix)
    shutil.rmtree(copy)
    (wheel,) = into.glob("*.whl")
    return wheel


def get_wheels(
    own: Path, target: Target, extras: Sequence[str], into: Path, *, offline: Path | None
) -> list[Path]:
    """Get the wheel `own` and all it needs on `target` into the folder `into`; return them.

    With `offline` from that folder alone. Raises UsageError for a target that is not known, BadData.
    """
    if target.python not in GLIBC_MINORS or target.machine not in MACHINES:
        seen = f"Python {target.python} on {target.machine}"
        fix = f"there are {', '.join(GLIBC_MINORS)} on {' and '.join(MACHINES)}"
        raise UsageError("a target that is not supported", seen=seen, fix=fix)
    into.mkdir(parents=True)
    limits = into.with_name(f"{into.name}.constraints")
    limits.write_text("numpy<2\n" if target.python in _NUMPY_ONE else "")
    named = f"[{','.join(extras)}]" if extras else ""
    command = command_of("agent.fleet.crosspip", target.python, target.machine, "download", *_from(offline))
    command += [
        "--only-binary=:all:",
        "--prefer-binary",
        f"--constraint={limits}",
        f"--dest={into}",
        *_tags(target),
    ]
    if fault := _run_pip([*command, f"{own}{named}"]):
        raise _no_wheels(fault, target, offline)
    return sorted(into.glob("*.whl"))


def _no_wheels(fault: str, target: Target, offline: Path | None) -> BadData:
    """Return what to tell of pip's `fault`: which wheel is missing, where it was looked for, and how to get it."""
    where = f"Python {target.python} on {target.machine}"
    missing = _missing(fault)
    if offline is None or not missing:
        fix = "an extra whose packages have no wheels comes from the distribution (apt), not from a release"
        return BadData(f"no wheels for {where}", seen=fault, fix=fix)
    name = canonical(re.split(r"[^\w.-]", missing, maxsplit=1)[0])
    others = sorted(p.name for p in offline.glob("*.whl") if canonical(p.name.partition("-")[0]) == name)
    seen = (
        f"{offline} has {', '.join(others[:_SHOWN]) or 'none of it'}{' ...' if len(others) > _SHOWN else ''}"
    )
    download = (
        f"pip download '{missing}' --no-deps --only-binary=:all: --python-version {target.python}"
        f" --platform manylinux2014_{target.machine} -d {offline}"
    )
    return BadData(
        f"no wheel of {missing} for {where}", seen=seen, fix=f"{download}, where there is a network"
    )


def _missing(fault: str) -> str:
    """Return the requirement that pip found no wheel for, with our constraint on it; "" for another fault."""
    alone = re.search(r"satisfies the requirement ([^;(]+?)\s*[;(]", fault)
    sides = re.findall(r"(?:depends on|\(constraint\)) ([\w.-]+)([^\s;]*)", fault)
    if alone is not None or not sides:
        return alone[1] if alone else ""
    name: str = sides[0][0]
    return name + ",".join(filter(None, dict.fromkeys(spec for _, spec in sides)))


def _tags(target: Target) -> list[str]:
    """Return pip's options for what can be installed on `target`."""
    minors = range(GLIBC_MINORS[target.python], _OLDEST_GLIBC_MINOR - 1, -1)
    platforms = [f"manylinux_2_{minor}_{target.machine}" for minor in minors]
    abis = (f"cp{target.python.replace('.', '')}", "abi3", "none")
    return [
        *(f"--platform={each}" for each in (*platforms, f"manylinux2014_{target.machine}")),
        *(f"--abi={each}" for each in abis),
        f"--python-version={target.python}",
        "--implementation=cp",
    ]


def _from(offline: Path | None) -> list[str]:
    return ["--isolated", "--no-index", f"--find-links={offline.resolve()}"] if offline else []


def _run_pip(command: list[str], *, settings: dict[str, str] | None = None) -> str:
    """Run pip; return why it failed, "" where it did not. Raises InputMissing without a pip."""
    if find_spec("pip") is None:
        raise InputMissing("no pip beside this Python", seen=sys.executable, fix="python -m ensurepip")
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    try:
        done = subprocess.run(  # noqa: S603
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            env={**os.environ, **quiet, **(settings or {})},
        )
    except subprocess.TimeoutExpired:
        return f"pip took more than {_TIMEOUT_S:g} s"
    if not done.returncode:
        return ""
    said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
    why = said[0].removeprefix("ERROR: ") if said else done.stderr[-300:] or "pip says nothing"
    conflict = re.search(r"The conflict is caused by:\n((?: {4}.+\n)+)", done.stdout)
    return f"{why} {conflict[1]}" if conflict else why


def _copy(source: Path, target: Path) -> None:
    """Copy a file or folder without what an interpreter left there, modes made equal: they go into the wheel."""
    try:
        if source.is_dir():
            shutil.copytree(
                source, target, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copyfile
            )
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        for path in (target, *target.rglob("*")) if target.is_dir() else (target,):
            path.chmod(0o755 if path.is_dir() else 0o644)
    except OSError as error:
        raise CannotCreate(
            f"can't copy {source}", seen=error.strerror or error, fix="make room there"
        ) from error
