"""What the files of a system say about it, as text: all the reading, none of the meaning."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import msgspec

from agent.hardware.cores import usable_cpus
from agent.hardware.files import printable, read_bytes, read_line, read_text
from agent.hardware.throttling import read_power_mode

_PACKAGES = re.compile(r"nvidia-l4t-core|nvidia-jetpack|tensorrt|libnvinfer[0-9]{1,3}|python3-libnvinfer")
_ELF_MACHINES = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
"""e_machine of the ELF header."""
_USERLAND = ("usr/bin/env", "bin/sh", "usr/bin/dash", "bin/busybox")


class Facts(msgspec.Struct, frozen=True):
    """One system. None: the file is missing, hidden or unreadable.

    `compatible` are the entries of the device tree's root, the most special first. `packages` are those of
    NVIDIA that dpkg has installed, by name. `machine` is the kernel's, `userland_machine` that of the programs;
    `userland_bits` are those of the Python that runs, in a tree of files those of the programs. `usable_cpus`
    is what affinity and cgroups leave, None in a tree of files. `power_mode` is nvpmodel's.
    """

    compatible: tuple[str, ...] | None = None
    model: str | None = None
    cpuinfo: str | None = None
    meminfo: str | None = None
    os_release: str | None = None
    nv_tegra_release: str | None = None
    packages: dict[str, str] = {}
    machine: str | None = None
    kernel: str | None = None
    userland_bits: int | None = None
    userland_machine: str | None = None
    cpus_online: str | None = None
    usable_cpus: int | None = None
    power_mode: str | None = None


def read_facts(root: Path = Path("/")) -> Facts:
    """Read the facts below `root`: this system, or a copy of another's files. Never raises for what it meets."""
    here = root == Path("/")
    bits, machine = _programs(root)
    os_release = read_text(root / "etc/os-release") or read_text(root / "usr/lib/os-release")
    return Facts(
        compatible=_compatible(root),
        model=_model(root),
        cpuinfo=read_text(root / "proc/cpuinfo"),
        meminfo=read_text(root / "proc/meminfo"),
        os_release=os_release,
        nv_tegra_release=read_text(root / "etc/nv_tegra_release"),
        packages=_installed(read_text(root / "var/lib/dpkg/status") or ""),
        machine=os.uname().machine if here else read_line(root / "proc/sys/kernel/arch"),
        kernel=os.uname().release if here else read_line(root / "proc/sys/kernel/osrelease"),
        userland_bits=struct.calcsize("P") * 8 if here else bits,
        userland_machine=machine,
        cpus_online=read_line(root / "sys/devices/system/cpu/online"),
        usable_cpus=usable_cpus() if here else None,
        power_mode=read_power_mode(root),
    )


def _compatible(root: Path) -> tuple[str, ...] | None:
    for path in _tree_nodes(root, "compatible"):
        if raw := read_bytes(path):
            found = (printable(entry.decode(errors="replace")) for entry in raw[:4096].split(b"\0"))
            return tuple(filter(None, found)) or None
    return None


def _model(root: Path) -> str | None:
    return next(filter(None, map(read_line, _tree_nodes(root, "model"))), None)


def _tree_nodes(root: Path, name: str) -> list[Path]:
    """Return where a property of the device tree's root can be.

    /proc/device-tree is an absolute link: in a copy, it must not lead to the tree of this machine.
    """
    places = [root / "sys/firmware/devicetree/base" / name, root / "proc/device-tree" / name]
    top = Path(os.path.realpath(root))
    return [path for path in places if Path(os.path.realpath(path)).is_relative_to(top)]


def _installed(status: str) -> dict[str, str]:
    """Return the versions of the packages of interest from the text of /var/lib/dpkg/status."""
    found = {}
    for name in re.finditer(rf"^Package: ({_PACKAGES.pattern})$", status, re.MULTILINE):
        stanza = status[name.start() :].partition("\n\n")[0]
        version = re.search(r"^Version: (\S+)$", stanza, re.MULTILINE)
        if version and re.search(r"^Status: \S+ \S+ installed$", stanza, re.MULTILINE):
            found[name[1]] = printable(version[1])
    return found


def _programs(root: Path) -> tuple[int | None, str | None]:
    """Return bits and machine of the programs below `root`: bytes 4 and 18-19 of an ELF header."""
    for name in _USERLAND:
        head = (read_bytes(root / name) or b"")[:20]
        if head[:4] == b"\x7fELF" and len(head) == 20 and head[4] in {1, 2}:
            return head[4] * 32, _ELF_MACHINES.get(int.from_bytes(head[18:20], "little"))
    return None, None
