"""Making a release: wheels, pinned requirements, bill of materials and licences, in one folder, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import tomli_w

from agent.errors import BadData, CannotCreate, InputMissing, UsageError
from agent.fleet.closure import build_own, get_wheels
from agent.fleet.inventory import licences_of, sbom_of
from agent.fleet.release import (
    LICENCES,
    MANIFEST,
    PROJECT,
    REQUIREMENTS,
    SBOM,
    WHEELS,
    Release,
    Target,
    hash12_of,
    requirements_of,
    verify,
)
from agent.fleet.wheel import read_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.fleet.wheel import Wheel


def pack(
    source: Path,
    releases: Path,
    *,
    pythons: Sequence[str],
    platforms: Sequence[str],
    extras: Sequence[str] = (),
    offline: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Path, Release]:
    """Make a release of the checkout or wheel `source` below the folder `releases`; return its folder and what it is.

    One that is there already is checked, and kept. `offline` is a folder of wheels to take instead of a package
    index. The time in it is SOURCE_DATE_EPOCH, without that now.

    Raises UsageError, InputMissing, BadData, CannotCreate.
    """
    made = _now()
    if offline is not None and not offline.is_dir():
        raise InputMissing("no folder of wheels", seen=offline, fix="give one with --offline")
    try:
        releases.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".packing-", dir=releases) as work:
            return _pack(
                source, releases, Path(work), made, pythons, platforms, extras, offline=offline, tell=tell
            )
    except OSError as error:
        fix = "give --out a folder that can be written, with room"
        raise CannotCreate(f"can't write to {releases}", seen=error.strerror or error, fix=fix) from error


def _pack(
    source: Path,
    releases: Path,
    work: Path,
    made: str,
    pythons: Sequence[str],
    platforms: Sequence[str],
    extras: Sequence[str],
    *,
    offline: Path | None,
    tell: Callable[[str], None],
) -> tuple[Path, Release]:
    tell("the agent's wheel")
    own = build_own(source, work / "own", offline=offline)
    version = _version(own)
    closures: dict[Target, list[Wheel]] = {}
    folder = work / "release"
    (folder / WHEELS).mkdir(parents=True)
    for target in sorted({Target(python, machine) for python in pythons for machine in platforms}):
        tell(f"wheels for Python {target.python} on {target.machine}")
        got = get_wheels(own, target, extras, work / f"{target.python}-{target.machine}", offline=offline)
        closures[target] = [read_wheel(path) for path in got]
        for path in got:
            path.chmod(0o644)
            path.replace(folder / WHEELS / path.name)
    wheels = list({wheel.file: wheel for each in closures.values() for wheel in each}.values())
    hash12 = hash12_of(wheels)
    targets = sorted(closures)
    release = Release(
        schema=1,
        name=f"{version}-{hash12}",
        version=version,
        hash12=hash12,
        pythons=tuple(dict.fromkeys(target.python for target in targets)),
        platforms=tuple(sorted({target.machine for target in targets})),
        extras=tuple(sorted(set(extras))),
        made=made,
    )
    place = releases / release.name
    if place.exists():
        return place, verify(place)
    _write(folder, release, closures, wheels)
    verify(folder)
    folder.rename(place)
    return place, release


def _write(
    folder: Path, release: Release, closures: Mapping[Target, Sequence[Wheel]], wheels: Sequence[Wheel]
) -> None:
    (folder / REQUIREMENTS).write_text(requirements_of(closures), encoding="utf-8")
    (folder / SBOM).write_bytes(sbom_of(release, wheels))
    (folder / LICENCES).write_text(licences_of(wheels), encoding="utf-8")
    (folder / MANIFEST).write_text(tomli_w.dumps(msgspec.to_builtins(release)), encoding="utf-8")


def _version(own: Path) -> str:
    """Return the version of the agent's wheel. Raises BadData for the wheel of something else."""
    wheel = read_wheel(own)
    if wheel.name != PROJECT:
        raise BadData("not a wheel of edge-agent", seen=own.name, fix="give one, or a checkout")
    return wheel.version


def _now() -> str:
    """Return the time that a release tells as its own. Raises UsageError for a SOURCE_DATE_EPOCH that is none."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        time = (
            datetime.now(timezone.utc) if given is None else datetime.fromtimestamp(int(given), timezone.utc)
        )
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            "SOURCE_DATE_EPOCH", seen=given, fix="give seconds since 1970, or unset it"
        ) from error
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
