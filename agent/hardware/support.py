"""What we support: 64-bit Raspberry Pi OS Bookworm and Trixie, JetPack 6.1 and later, PCs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from agent.hardware.table import jetpack_of

if TYPE_CHECKING:
    from agent.hardware.system import System
    from agent.hardware.table import Release, Soc

Tier = Literal["supported", "untested", "unsupported"]
"""untested: nothing speaks against it, nobody has tried it."""

_TESTED_DEBIANS = ("bookworm", "trixie")
_OLD_DEBIANS = ("jessie", "stretch", "buster", "bullseye")
_PI_OS = "64-bit Raspberry Pi OS Bookworm or Trixie"


def support_of(
    kind: str,
    soc: Soc | None,
    system: System,
    release: Release | None,
    *,
    machine: str | None,
    bits: int | None,
) -> tuple[Tier, str]:
    """Return how well a device of `kind` is supported, and why."""
    if kind == "jetson" and soc:
        return _jetson(soc, release)
    if bits == 32:
        return "unsupported", f"32-bit userland: {_PI_OS if kind == 'raspberry-pi' else 'a 64-bit OS'} needed"
    if kind == "raspberry-pi" and soc:
        return _pi(soc, system)
    if kind == "pc":
        return "supported", "for development, and for servers without a GPU"
    if machine in {"aarch64", "arm64"}:
        return "untested", "a board that is not in our table; the CPU path needs no more than 64-bit Linux"
    return "unsupported", f"the runtimes have no wheels for {machine or 'an unknown processor'}"


def _pi(soc: Soc, system: System) -> tuple[Tier, str]:
    if soc.name in {"bcm2835", "bcm2836"}:
        return "unsupported", f"{soc.name} has no 64-bit cores: a Pi Zero 2 W, 3 or later is needed"
    if system.codename in _OLD_DEBIANS:
        return "unsupported", f"{_PI_OS} needed, this is {system.codename} (its Python is too old)"
    if system.codename in _TESTED_DEBIANS:
        return "supported", _PI_OS
    return "untested", f"{_PI_OS} is what is tested, this is {system.name or 'an unknown OS'}"


def _jetson(soc: Soc, release: Release | None) -> tuple[Tier, str]:
    """JetPack 4, 5 and 6.0 have Python 3.6 or 3.8, or TensorRT 8."""
    if soc.needs is None:
        return (
            "unsupported",
            f"JetPack 6.1+ needed, and {soc.name} gets none: a Jetson Orin or Thor is needed",
        )
    jetpack, first = soc.needs
    if release is None:
        return "untested", f"no L4T release found, so no GPU: JetPack {jetpack}+ needed for it"
    number = ".".join(map(str, release))
    name = jetpack_of(release)
    if release < first:
        return (
            "unsupported",
            f"JetPack {jetpack}+ needed, this is {name or '?'} (L4T {number}): flash a newer one",
        )
    if name is None:
        return "untested", f"L4T {number} is newer than this version of edge-agent knows"
    return "supported", f"JetPack {jetpack}+, this is {name}"
