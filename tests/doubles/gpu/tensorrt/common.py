"""Types, the log, and what an engine of the double is."""

from __future__ import annotations

import enum
import json
import os
import signal
from typing import Any

import numpy as np

MAGIC = b"TENSORRT-DOUBLE\n"


class DataType(enum.IntEnum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    FP8 = 6
    BF16 = 7
    INT64 = 8


NUMPY = {
    DataType.FLOAT: np.float32,
    DataType.HALF: np.float16,
    DataType.INT8: np.int8,
    DataType.INT32: np.int32,
    DataType.BOOL: np.bool_,
    DataType.UINT8: np.uint8,
    DataType.INT64: np.int64,
}
OF_ORT = {
    "tensor(float)": DataType.FLOAT,
    "tensor(float16)": DataType.HALF,
    "tensor(int8)": DataType.INT8,
    "tensor(int32)": DataType.INT32,
    "tensor(bool)": DataType.BOOL,
    "tensor(uint8)": DataType.UINT8,
    "tensor(int64)": DataType.INT64,
    "tensor(bfloat16)": DataType.BF16,
}


class TensorIOMode(enum.IntEnum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = Severity
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


class Logger(ILogger):
    def __init__(self, min_severity: Severity = Severity.WARNING) -> None:
        self._least = min_severity

    def log(self, severity: Severity, msg: str) -> None:
        if severity <= self._least:
            print(f"[TRT double] {msg}")


def load_session(onnx: bytes) -> Any:
    """Return ONNX Runtime's session, on one thread."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def pack(version: str, batch: int, onnx: bytes) -> bytes:
    """Return an engine of the double."""
    return (
        MAGIC + json.dumps({"version": version, "batch": batch, "bytes": len(onnx)}).encode() + b"\n" + onnx
    )


def unpack(plan: bytes) -> tuple[dict[str, Any], bytes] | None:
    """Return (header, ONNX file) of an engine, None if it is damaged."""
    if not plan.startswith(MAGIC):
        return None
    head, _, onnx = plan[len(MAGIC) :].partition(b"\n")
    try:
        header = json.loads(head)
    except ValueError:
        return None
    return (header, onnx) if len(onnx) == header["bytes"] else None


def crash() -> None:
    """End this process as a fault in native code does."""
    os.kill(os.getpid(), signal.SIGSEGV)
