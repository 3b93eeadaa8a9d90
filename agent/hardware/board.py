"""Which board the facts are those of. Pure; keyed on the entries of `compatible`, never on the model's name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

from agent.hardware.cpu import Cpu, count_cpus, memory_bytes, parse_cpuinfo
from agent.hardware.support import Tier, support_of
from agent.hardware.system import System, l4t_release, parse_os_release, tensorrt_package
from agent.hardware.table import JETSON_MODULES, JETSON_SOCS, PI_BOARDS, PI_SOCS, Soc, jetpack_of

if TYPE_CHECKING:
    from agent.hardware.facts import Facts

Kind = Literal["raspberry-pi", "jetson", "pc", "unknown"]


class Problem(msgspec.Struct, frozen=True):
    """Something about this device that costs speed or function, and what to do."""

    what: str
    fix: str


class Board(msgspec.Struct, frozen=True):
    """A device. None: it could not be told.

    `model` is for people's eyes alone. `cores` are those that are online, `usable_cpus` what affinity and
    cgroups leave of them (in a tree of files: all). `features` are those that matter to inference, None when
    /proc/cpuinfo is hidden. `power_mode` is a Jetson's (nvpmodel). `sm` is the GPU's compute capability.
    `tensorrt` is the version of the package.
    """

    kind: Kind
    name: str
    tier: Tier
    tier_reason: str
    model: str | None = None
    compatible: tuple[str, ...] = ()
    soc: str | None = None
    cpu: str | None = None
    cores: int | None = None
    usable_cpus: int = 1
    features: tuple[str, ...] | None = None
    memory_bytes: int | None = None
    machine: str | None = None
    userland_bits: int | None = None
    os: str | None = None
    kernel: str | None = None
    l4t: str | None = None
    jetpack: str | None = None
    tensorrt: str | None = None
    gpu: str | None = None
    sm: str | None = None
    power_mode: str | None = None
    problems: tuple[Problem, ...] = ()


def identify(facts: Facts) -> Board:
    """Say which board this is and whether it is supported. Never raises, whatever the facts hold."""
    cpu = parse_cpuinfo(facts.cpuinfo)
    system = parse_os_release(facts.os_release)
    release = l4t_release(facts.nv_tegra_release, facts.packages)
    machine = facts.machine or cpu.machine or facts.userland_machine
    bits = facts.userland_bits
    kind, name, soc = _device(facts.compatible or (), machine)
    tier, why = support_of(kind, soc, system, release, machine=machine, bits=bits)
    if kind == "raspberry-pi" and tier == "supported" and not PI_BOARDS.keys() & set(facts.compatible or ()):
        tier, why = "untested", "a Raspberry Pi that is not in our table"
    cores = count_cpus(facts.cpus_online) or cpu.count
    return Board(
        kind=kind,
        name=name,
        tier=tier,
        tier_reason=why,
        model=facts.model,
        compatible=facts.compatible or (),
        soc=soc.name if soc else None,
        cpu=cpu.name,
        cores=cores,
        usable_cpus=facts.usable_cpus or cores or 1,
        features=cpu.features,
        memory_bytes=memory_bytes(facts.meminfo),
        machine=machine,
        userland_bits=bits,
        os=_os_name(system),
        kernel=facts.kernel,
        l4t=".".join(map(str, release)) if release else None,
        jetpack=jetpack_of(release) if release else None,
        tensorrt=tensorrt_package(facts.packages),
        gpu=soc.gpu if soc else None,
        sm=soc.sm if soc else None,
        power_mode=facts.power_mode,
        problems=tuple(_problems(facts, cpu, machine)),
    )


def _device(compatible: tuple[str, ...], machine: str | None) -> tuple[Kind, str, Soc | None]:
    """Return the kind, the name and the SoC."""
    for entry in compatible:
        if entry in PI_BOARDS:
            name, chip = PI_BOARDS[entry]
            return "raspberry-pi", name, PI_SOCS[f"brcm,{chip}"]
    pi_soc = next((PI_SOCS[entry] for entry in compatible if entry in PI_SOCS), None)
    if pi_soc and any(entry.startswith("raspberrypi,") for entry in compatible):
        return "raspberry-pi", f"Raspberry Pi ({compatible[0]})", pi_soc
    jetson_soc = next((JETSON_SOCS[entry] for entry in compatible if entry in JETSON_SOCS), None)
    if jetson_soc:
        return "jetson", _jetson_module(compatible) or f"Jetson ({compatible[0]})", jetson_soc
    if (machine or "").startswith(("x86", "i386", "i686", "amd64")):
        return "pc", "PC", None
    return "unknown", f"unknown board ({compatible[0] if compatible else machine or 'no device tree'})", None


def _jetson_module(compatible: tuple[str, ...]) -> str | None:
    """Return the module's name; carriers have numbers of the same form (p3768), which are in no table."""
    parts = re.findall(r"p[0-9]{4}(?:-[0-9]{4})?", " ".join(e for e in compatible if e.startswith("nvidia,")))
    known = [part for part in (*parts, *(part[:5] for part in parts)) if part in JETSON_MODULES]
    return JETSON_MODULES[max(known, key=len)] if known else None


def _os_name(system: System) -> str | None:
    return system.name or (" ".join(filter(None, (system.id, system.version))) or None)


def _problems(facts: Facts, cpu: Cpu, machine: str | None) -> list[Problem]:
    found = []
    arm = (machine or "").startswith(("aarch64", "arm"))
    if facts.userland_bits == 32:
        kernel = " (only the kernel is 64-bit)" if machine in {"aarch64", "x86_64"} else ""
        what = f"32-bit userland{kernel}: LiteRT has no wheels for it (armv7l)"
        found.append(Problem(what, "install the 64-bit OS"))
    if cpu.features is None and (arm or machine is None):
        what = "/proc/cpuinfo is hidden or empty: XNNPACK will silently turn itself off, inference is many times slower"
        found.append(Problem(what, "no ProcSubset=pid in the systemd unit; mount /proc whole"))
    if facts.cpus_online is None and arm:
        what = "/sys/devices/system/cpu is hidden: XNNPACK may silently turn itself off"
        found.append(Problem(what, "let the service read /sys"))
    if facts.compatible is None and arm:
        what = "no device tree to tell the board by (containers hide /sys/firmware; servers have none)"
        found.append(Problem(what, "in a container: mount /sys/firmware/devicetree read-only"))
    return found
