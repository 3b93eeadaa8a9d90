"""A release: a folder from which devices install the agent without a network, and what must be true of it."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from agent.errors import AgentError, BadData, InputMissing
from agent.fleet.wheel import read_wheel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from agent.fleet.wheel import Wheel

MANIFEST, REQUIREMENTS, WHEELS = "release.toml", "requirements.txt", "wheels"
SBOM, LICENCES = "sbom.cdx.json", "LICENSES.txt"
PROJECT = "edge-agent"
_FIX = "make it anew with `edge-agent fleet pack`"
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What release.toml says. `made`: RFC 3339, UTC."""

    schema: int
    name: str
    version: str
    hash12: str
    pythons: tuple[str, ...]
    platforms: tuple[str, ...]
    extras: tuple[str, ...]
    made: str


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """A Python ("3.11") on a machine ("aarch64"), as devices have it."""

    python: str
    machine: str


def hash12_of(wheels: Iterable[Wheel]) -> str:
    """Return 12 hex digits that stand for this set of wheels: of the sha256 over their sorted sha256."""
    listed = "\n".join(sorted(wheel.sha256 for wheel in wheels))
    return hashlib.sha256(listed.encode()).hexdigest()[:12]


def requirements_of(closures: Mapping[Target, Sequence[Wheel]]) -> str:
    """Return the text of requirements.txt: every project pinned, with markers where targets differ, and all hashes."""
    places: dict[tuple[str, str], set[Target]] = defaultdict(set)
    hashes: dict[tuple[str, str], set[str]] = defaultdict(set)
    for target, wheels in closures.items():
        for wheel in wheels:
            places[wheel.name, wheel.version].add(target)
            hashes[wheel.name, wheel.version].add(wheel.sha256)
    lines = []
    for (name, version), targets in sorted(places.items()):
        marker = "" if targets == set(closures) else f" ; {_marker(targets, closures)}"
        listed = "".join(f" \\\n    --hash=sha256:{each}" for each in sorted(hashes[name, version]))
        lines.append(f"{name}=={version}{marker}{listed}\n")
    return "".join(lines)


def _marker(targets: set[Target], every: Iterable[Target]) -> str:
    """Return the marker that is true for `targets`, and for no other of `every`."""
    machines = {target.machine for target in every}
    parts = []
    for python in sorted({target.python for target in targets}, key=_numbers):
        mine = {target.machine for target in targets if target.python == python}
        part = f'python_version == "{python}"'
        if mine != machines:
            listed = " or ".join(f'platform_machine == "{machine}"' for machine in sorted(mine))
            part += f" and ({listed})"
        parts.append(part if len(mine) == len(machines) else f"({part})")
    return " or ".join(parts)


def _numbers(python: str) -> list[int]:
    return [int(part) for part in python.split(".")]


def read_release(folder: Path) -> Release:
    """Return what release.toml in `folder` says. Raises InputMissing, BadData."""
    path = folder / MANIFEST
    try:
        release = msgspec.toml.decode(path.read_bytes(), type=Release)
    except FileNotFoundError:
        raise InputMissing(
            "no release there", seen=path, fix="name the folder that `fleet pack` made"
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise BadData(f"{path} can't be read", seen=error, fix=_FIX) from error
    if release.schema != 1:
        raise BadData(
            f"{path}", seen=f"schema {release.schema}", fix="use the edge-agent that made it, or a newer one"
        )
    return release


def verify(folder: Path) -> Release:
    """Check every file of the release against what it says, and return it. Raises InputMissing, BadData."""
    release = read_release(folder)
    missing = [n for n in (REQUIREMENTS, SBOM, LICENCES) if not (folder / n).is_file()]
    if missing or not (folder / WHEELS).is_dir():
        raise BadData("the release is not whole", seen=f"no {(missing or [WHEELS])[0]}", fix=_FIX)
    try:
        listed = set(_HASH.findall((folder / REQUIREMENTS).read_text(encoding="utf-8")))
        files = sorted((folder / WHEELS).iterdir())
    except (OSError, UnicodeDecodeError) as error:
        raise BadData("the release can't be read", seen=error, fix=_FIX) from error
    wheels = [_known(path, listed) for path in files]
    if len(wheels) != len(listed):
        raise BadData("the release is not whole", seen=f"{len(wheels)} of {len(listed)} wheels", fix=_FIX)
    found = hash12_of(wheels)
    if found != release.hash12 or release.name != f"{release.version}-{found}":
        raise BadData(
            "the release is not what its name says", seen=f"{release.name}, found {found}", fix=_FIX
        )
    if [w.version for w in wheels if w.name == PROJECT] != [release.version]:
        raise BadData("the release has another agent", seen=f"not {release.version}", fix=_FIX)
    return release


def _known(path: Path, listed: set[str]) -> Wheel:
    """Return the wheel if its hash is `listed`. Raises BadData."""
    try:
        wheel = read_wheel(path)
    except AgentError as fault:
        raise BadData("a wheel of the release is damaged", seen=path.name, fix=_FIX) from fault
    if wheel.sha256 not in listed:
        raise BadData("a wheel that is not in requirements.txt", seen=path.name, fix=_FIX)
    return wheel
