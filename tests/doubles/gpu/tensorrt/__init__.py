"""A double of TensorRT 10.3: the calls that the agent makes; ONNX Runtime executes the same ONNX file behind them.

Not TensorRT: an "engine" is the ONNX file itself, and only what ONNX Runtime refuses is refused, and the operators
of TENSORRT_DOUBLE's `refuse`. That variable sets how it behaves, as `key=value` words: version=10.13.0,
step_s=0.1 (how long each of the eight steps of a build takes), hog_mib=500 (memory a build takes),
crash=build, crash=load or crash=work (after crash_after=10 runs), refuse=Resize.
"""

from __future__ import annotations

import os

SETTINGS = dict(word.split("=", 1) for word in os.environ.get("TENSORRT_DOUBLE", "").split())
__version__ = SETTINGS.get("version", "10.3.0")

from tensorrt.building import (  # noqa: E402  a double, in the order of its parts
    Builder,
    IProgressMonitor,
    MemoryPoolType,
    NetworkDefinitionCreationFlag,
    OnnxParser,
)
from tensorrt.common import DataType, ILogger, Logger, TensorIOMode  # noqa: E402
from tensorrt.running import Runtime  # noqa: E402

__all__ = [
    "Builder",
    "DataType",
    "ILogger",
    "IProgressMonitor",
    "Logger",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "Runtime",
    "TensorIOMode",
]
