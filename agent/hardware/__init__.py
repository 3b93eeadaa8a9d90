"""What device this is: `read_facts` does the reading, `identify` says what the facts mean."""

from __future__ import annotations

from agent.hardware.board import Board, Problem, identify
from agent.hardware.cores import default_threads, usable_cpus
from agent.hardware.facts import Facts, read_facts
from agent.hardware.sensors import Devfreq, PowerRail, Sensors, ThermalZone, read_sensors
from agent.hardware.throttling import Throttling, read_throttling

__all__ = [
    "Board",
    "Devfreq",
    "Facts",
    "PowerRail",
    "Problem",
    "Sensors",
    "ThermalZone",
    "Throttling",
    "default_threads",
    "identify",
    "read_facts",
    "read_sensors",
    "read_throttling",
    "usable_cpus",
]
