"""Versions: the operating system, Jetson Linux (L4T), TensorRT's packages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from agent.hardware.files import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.hardware.table import Release


class System(msgspec.Struct, frozen=True):
    """What /etc/os-release says: `version` is VERSION_ID, such as "12"."""

    name: str | None = None
    id: str | None = None
    version: str | None = None
    codename: str | None = None


def parse_os_release(text: str | None) -> System:
    """Return the name, id, version and code name; each None where it is not told."""
    found = dict(re.findall(r"^([A-Z_]{1,40})=[\"']?([^\"'\n]*)[\"']?$", text or "", re.MULTILINE))
    fields = {key: printable(value) or None for key, value in found.items()}
    return System(
        name=fields.get("PRETTY_NAME"),
        id=fields.get("ID"),
        version=fields.get("VERSION_ID"),
        codename=fields.get("VERSION_CODENAME"),
    )


def l4t_release(nv_tegra_release: str | None, packages: Mapping[str, str]) -> Release | None:
    """Return the release of Jetson Linux, such as (36, 4, 3), from its file, else from its core package."""
    line = re.search(
        r"R([0-9]{1,3}) \(release\), REVISION: ([0-9]{1,3})\.([0-9]{1,3})", nv_tegra_release or ""
    )
    core = re.match(r"([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})", packages.get("nvidia-l4t-core", ""))
    found = line or core
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def tensorrt_package(packages: Mapping[str, str]) -> str | None:
    """Return the version of TensorRT's runtime library that dpkg has installed, such as "10.3.0.30"."""
    libraries = [name for name in packages if re.fullmatch(r"libnvinfer[0-9]+", name)]
    newest = max(libraries, key=lambda name: int(name[len("libnvinfer") :]), default="tensorrt")
    return packages.get(newest, "").partition("-")[0] or None


def version_of(text: str | None) -> tuple[int, int] | None:
    """Return the first two numbers of a version, such as (10, 3)."""
    match = re.match(r"([0-9]{1,6})\.([0-9]{1,6})", text or "")
    return (int(match[1]), int(match[2])) if match else None
