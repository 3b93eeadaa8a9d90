"""What /proc/cpuinfo, /proc/meminfo and the list of CPUs say, parsed."""

from __future__ import annotations

import re

import msgspec

from agent.hardware.files import printable, whole
from agent.hardware.table import CPU_FEATURES, CPU_PARTS

_MOST_CPUS = 4096


class Cpu(msgspec.Struct, frozen=True):
    """The processors. `features` are those of CPU_FEATURES that every core has; None: they can't be told."""

    name: str | None = None
    machine: str | None = None
    count: int | None = None
    features: tuple[str, ...] | None = None


def parse_cpuinfo(text: str | None) -> Cpu:
    """Return what /proc/cpuinfo says, of ARM or x86; `machine` is only a guess from its form."""
    fields: dict[str, list[str]] = {}
    for line in (text or "").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), []).append(value.strip())
    flags = [set(value.split()) for value in fields.get("Features") or fields.get("flags") or []]
    common = set.intersection(*flags) if flags else set()
    return Cpu(
        name=_name(fields),
        machine=_machine(fields),
        count=_sane(len(fields.get("processor", ()))),
        features=tuple(name for name in CPU_FEATURES if name in common) if flags else None,
    )


def _name(fields: dict[str, list[str]]) -> str | None:
    pairs = zip(fields.get("CPU implementer", ()), fields.get("CPU part", ()), strict=False)
    ids = dict.fromkeys(f"{implementer}:{part}" for implementer, part in pairs)
    if ids:
        return " + ".join(CPU_PARTS.get(part, printable(part)) for part in list(ids)[:4])
    return printable(fields.get("model name", [""])[0]) or None


def _machine(fields: dict[str, list[str]]) -> str | None:
    if "flags" in fields:
        return "x86_64" if "lm" in fields["flags"][0].split() else "i686"
    architecture = fields.get("CPU architecture", [""])[0]
    return {"8": "aarch64", "7": "armv7l", "6": "armv6l"}.get(architecture)


def memory_bytes(meminfo: str | None) -> int | None:
    """Return MemTotal of /proc/meminfo, which is in KiB; firmware and GPU have taken theirs before."""
    match = re.search(r"^MemTotal:\s*([0-9]{1,12}) kB$", meminfo or "", re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def count_cpus(online: str | None) -> int | None:
    """Return how many CPUs a kernel's list such as "0-3,5" names."""
    total = 0
    for part in (online or "").split(","):
        first, _, last = part.partition("-")
        low, high = whole(first), whole(last or first)
        if low is None or high is None or high < low:
            return None
        total += high - low + 1
    return _sane(total)


def _sane(count: int) -> int | None:
    return count if 0 < count <= _MOST_CPUS else None
