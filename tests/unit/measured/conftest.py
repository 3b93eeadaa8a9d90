"""A tuning as `edge-agent tune` makes it."""

from __future__ import annotations

import pytest

from agent.backends.choice import Choice
from agent.bundle.manifest import Artifact
from agent.measured import Device, Measured, Tuning

INT8 = Artifact(file="int8.tflite", format="tflite", precision="int8", sha256="ab" * 32)
FP32 = Artifact(file="fp32.tflite", format="tflite", precision="fp32", sha256="cd" * 32)


@pytest.fixture
def device() -> Device:
    return Device("Raspberry Pi 5", "BCM2712", "Cortex-A76", 4, None, {"litert": "2.3.0"})


@pytest.fixture
def tuning(device: Device) -> Tuning:
    quick = Measured(Choice("litert", "int8.tflite", "int8", 2), 700, 4.1, 4.6, peak_rss_mb=82.0)
    failed = Measured(Choice("litert", "fp32.tflite", "fp32", 2), objection="it crashed (SIGSEGV)")
    return Tuning(
        model="a model 3",
        artifacts={artifact.file: artifact.sha256 for artifact in (INT8, FP32)},
        device=device,
        time="2026-11-22T10:00:00+00:00",
        rounds=3,
        measured=(quick, failed),
        chosen=quick.choice,
        absent=("tensorrt: no Jetson",),
    )
