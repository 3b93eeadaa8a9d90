"""What was measured of a bundle on this device, which choice follows from it, and where that is kept."""

from __future__ import annotations

from agent.measured.record import Device, Measured, Tuning
from agent.measured.store import read_tuning, write_tuning
from agent.measured.verdict import choose, factor, slower_int8, told

__all__ = [
    "Device",
    "Measured",
    "Tuning",
    "choose",
    "factor",
    "read_tuning",
    "slower_int8",
    "told",
    "write_tuning",
]
