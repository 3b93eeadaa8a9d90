"""Temperatures, power rails and clocks, as the kernel tells them in /sys."""

from __future__ import annotations

from pathlib import Path

import msgspec

from agent.hardware.files import entries, listed, read_int, read_line

_MAX_TRIPS = 32
_PLAUSIBLE_C = (40.0, 130.0)
"""Firmware that has no trip point says 0 or -274."""


class ThermalZone(msgspec.Struct, frozen=True):
    """A thermal zone by its type; `temperature_c` is None for a zone that is switched off.

    `slows_at_c` is where the kernel begins to slow the device down for it: its lowest passive trip point.
    """

    name: str
    temperature_c: float | None
    slows_at_c: float | None = None


class PowerRail(msgspec.Struct, frozen=True):
    """A rail of a Jetson's INA3221: volts times amperes, None where one does not answer."""

    name: str
    power_w: float | None


class Devfreq(msgspec.Struct, frozen=True):
    """A clock that is scaled, such as a GPU's."""

    name: str
    now_hz: int | None
    max_hz: int | None


class Sensors(msgspec.Struct, frozen=True):
    """What can be watched on this device. `hwmon` are the names of all chips, INA3221 among them."""

    thermal: tuple[ThermalZone, ...] = ()
    hwmon: tuple[str, ...] = ()
    power: tuple[PowerRail, ...] = ()
    devfreq: tuple[Devfreq, ...] = ()


def read_sensors(root: Path = Path("/")) -> Sensors:
    """Read every sensor once. Never raises; what does not answer is None or left out."""
    chips = [(chip, read_line(chip / "name")) for chip in listed(root / "sys/class/hwmon", "hwmon")]
    return Sensors(
        thermal=read_zones(root),
        hwmon=tuple(name for _, name in chips if name),
        power=tuple(rail for chip, name in chips if name == "ina3221" for rail in _rails(chip)),
        devfreq=_devfreq(root / "sys/class/devfreq"),
    )


def read_zones(root: Path = Path("/")) -> tuple[ThermalZone, ...]:
    """Read the thermal zones alone. Never raises."""
    return tuple(_zone(path) for path in listed(root / "sys/class/thermal", "thermal_zone"))


def _zone(path: Path) -> ThermalZone:
    name = read_line(path / "type") or path.name
    return ThermalZone(name, _degrees(path / "temp"), min(_passive_trips(path), default=None))


def _passive_trips(zone: Path) -> list[float]:
    """Return the temperatures of its passive trip points; the others start fans, or end it all."""
    found = []
    for number in range(_MAX_TRIPS):
        kind = read_line(zone / f"trip_point_{number}_type")
        if kind is None:
            break
        at_c = _degrees(zone / f"trip_point_{number}_temp") if kind == "passive" else None
        if at_c is not None and _PLAUSIBLE_C[0] <= at_c <= _PLAUSIBLE_C[1]:
            found.append(at_c)
    return found


def _degrees(path: Path) -> float | None:
    millidegrees = read_int(path)
    return None if millidegrees is None else millidegrees / 1000


def _rails(chip: Path) -> list[PowerRail]:
    """Read the three channels of an INA3221: in1..3 in millivolts, curr1..3 in milliamperes."""
    rails = []
    for channel in (1, 2, 3):
        name = read_line(chip / f"in{channel}_label")
        if name is None or name == "NC":
            continue
        millivolts, milliamperes = (
            read_int(chip / f"in{channel}_input"),
            read_int(chip / f"curr{channel}_input"),
        )
        if millivolts is None or milliamperes is None:
            rails.append(PowerRail(name, None))
        else:
            rails.append(PowerRail(name, millivolts * milliamperes / 1e6))
    return rails


def _devfreq(directory: Path) -> tuple[Devfreq, ...]:
    return tuple(
        Devfreq(path.name, read_int(path / "cur_freq"), read_int(path / "max_freq"))
        for path in entries(directory)
        if path.name.isprintable()
    )
