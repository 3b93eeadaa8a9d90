"""Numbers of the agent for Prometheus and MQTT: one snapshot, and one table that says what each number is."""

from __future__ import annotations

from agent.metrics.snapshot import CameraSample, EngineSample, ProcessSample, Snapshot, read_process
from agent.metrics.table import METRICS, Metric, Series, series

__all__ = [
    "METRICS",
    "CameraSample",
    "EngineSample",
    "Metric",
    "ProcessSample",
    "Series",
    "Snapshot",
    "read_process",
    "series",
]
