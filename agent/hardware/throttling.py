"""What slows this device down, or is about to: heat, too little voltage, the caps of firmware and kernel."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from agent.hardware.files import listed, read_int, read_line, read_text
from agent.hardware.mailbox import read_throttled
from agent.hardware.sensors import ThermalZone, read_zones

PI_SLOWS_AT_C = 80.0
"""From here on the firmware of every Raspberry Pi lowers the clock (documentation, "Frequency management and
thermal control"); the kernel's trip points know nothing of it."""
_UNDER_VOLTAGE = 1
_FIRMWARE_CAPS = {1: "frequency capped", 2: "throttled"}
"""Bits of GET_THROTTLED that say what is now. Bit 3 is left out: the soft limit of a Pi 3 B+ is 60 C and costs it
a seventh of its clock."""
_SYSFS_BITS = "sys/devices/platform/soc/soc:firmware/get_throttled"
_SLOWS = re.compile(r"(thermal-)?(cpufreq|devfreq)-.*|.*-throttle-alert|Processor")
"""Cooling devices that take speed away: Linux' cpufreq and devfreq ones, a Jetson's alerts, ACPI's. Not fans."""


class Throttling(msgspec.Struct, frozen=True):
    """One look. `slowed` names what takes speed away now; `power_mode` is nvpmodel's on a Jetson.

    Where nothing is told, nothing is said. Each of `zones` has the temperature at which it slows the device, as
    far as that is known.
    """

    zones: tuple[ThermalZone, ...] = ()
    under_voltage: bool = False
    slowed: tuple[str, ...] = ()
    power_mode: str | None = None

    @property
    def nearest(self) -> tuple[str, float, float] | None:
        """The zone that is nearest to be slowed for: name, temperature and limit, C; None where none is known."""
        known = [
            (zone.name, zone.temperature_c, zone.slows_at_c)
            for zone in self.zones
            if zone.temperature_c is not None and zone.slows_at_c is not None
        ]
        return min(known, key=lambda zone: zone[2] - zone[1], default=None)


def read_throttling(root: Path = Path("/")) -> Throttling:
    """Look once, reading only. Never raises; what does not answer is left out."""
    chips = {read_line(path / "name"): path for path in listed(root / "sys/class/hwmon", "hwmon")}
    volts = chips.get("rpi_volt")
    bits = _firmware_bits(root)
    zones = read_zones(root)
    if volts is not None or bits is not None:
        zones = tuple(_of_a_pi(zone) for zone in zones)
    bits = bits or 0
    alarm = volts is not None and read_int(volts / "in0_lcrit_alarm") == 1
    caps = [name for bit, name in _FIRMWARE_CAPS.items() if bits >> bit & 1]
    return Throttling(
        zones=zones,
        under_voltage=alarm or bool(bits & _UNDER_VOLTAGE),
        slowed=(*caps, *_cooling(root)),
        power_mode=read_power_mode(root),
    )


def _firmware_bits(root: Path) -> int | None:
    """Return the bits from the mailbox, else from sysfs, where the kernel keeps an old answer and complains."""
    if (bits := read_throttled(root)) is not None:
        return bits
    text = read_line(root / _SYSFS_BITS) or ""
    return int(text, 16) if re.fullmatch(r"(0x)?[0-9a-fA-F]{1,8}", text) else None


def _of_a_pi(zone: ThermalZone) -> ThermalZone:
    return msgspec.structs.replace(zone, slows_at_c=min(zone.slows_at_c or PI_SLOWS_AT_C, PI_SLOWS_AT_C))


def _cooling(root: Path) -> list[str]:
    """Return the cooling devices at work that take speed away, each name once."""
    at_work = [
        read_line(path / "type") or ""
        for path in listed(root / "sys/class/thermal", "cooling_device")
        if (read_int(path / "cur_state") or 0) > 0
    ]
    return sorted({name for name in at_work if _SLOWS.fullmatch(name)})


def read_power_mode(root: Path) -> str | None:
    """Return the name of nvpmodel's mode, or its number where the table of modes is not there."""
    chosen = re.search(r"pmode:(\d{1,4})", read_text(root / "var/lib/nvpmodel/status") or "")
    if chosen is None:
        return None
    number = int(chosen[1])
    table = read_text(root / "etc/nvpmodel.conf") or ""
    name = re.search(rf"(?m)^\s*<\s*POWER_MODEL\s+ID=0*{number}\s+NAME=([\w-]+)", table)
    return name[1] if name else f"mode {number}"
