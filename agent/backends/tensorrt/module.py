"""TensorRT's Python module: its version, its flags by name, its log. The module is passed in.

So that the same code also builds with `tensorrt_rtx`, whose builder needs no GPU.
"""

from __future__ import annotations

import importlib
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.errors import BadData, ServiceAway

if TYPE_CHECKING:
    from types import ModuleType

log = logging.getLogger(__name__)

_OLDEST = (10, 3)
_KEPT_LINES = 8
_FIX = "sudo apt install tensorrt python3-libnvinfer (JetPack's, never pip), venv with --system-site-packages"
DTYPES: dict[str, np.dtype[Any]] = {
    "FLOAT": np.dtype(np.float32),
    "HALF": np.dtype(np.float16),
    "INT8": np.dtype(np.int8),
    "UINT8": np.dtype(np.uint8),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "BOOL": np.dtype(np.bool_),
}
"""NumPy's type for each of TensorRT's, by the name of `tensorrt.DataType`: its own `nptype` fails with some NumPys."""


def load_tensorrt() -> ModuleType:
    """Import TensorRT. Raises ServiceAway without it, and for one older than 10.3.

    Without a driver its lean runtime crashes the process: reach the GPU first, or do it in a child.
    """
    try:
        trt = importlib.import_module("tensorrt")
    except ImportError as error:
        raise ServiceAway("no TensorRT", seen=error, fix=_FIX) from error
    version = tuple(int(part) for part in trt.__version__.split(".")[:2])
    if version < _OLDEST:
        raise ServiceAway(
            "TensorRT is too old", seen=trt.__version__, fix="10.3 or later: JetPack 6.1 or later"
        )
    return trt


def make_log(trt: ModuleType) -> Any:
    """Return a logger for TensorRT that feeds ours; `last()` is its last complaint. It must outlive its users."""
    levels = {
        trt.ILogger.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.ERROR: logging.ERROR,
        trt.ILogger.WARNING: logging.DEBUG,  # hundreds, none of which a user can do something about
        trt.ILogger.INFO: logging.DEBUG,
    }

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]  # a base class that is found at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._complaints: deque[str] = deque(maxlen=_KEPT_LINES)

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity)
            if level is None:
                return
            if level == logging.ERROR:
                self._complaints.append(message)
            log.log(min(level, logging.INFO), "TensorRT: %s", message)

        def last(self) -> str:
            return self._complaints[-1][:240] if self._complaints else "it gives no reason"

    return Log()


def create(trt: ModuleType, what: str, logger: Any) -> Any:
    """Return `trt.Builder` or `trt.Runtime`, by name. Raises ServiceAway when it can't start."""
    try:
        return getattr(trt, what)(logger)
    except (TypeError, RuntimeError) as error:  # "factory function returned nullptr"
        fix = "check the driver and the GPU: `edge-agent probe`"
        raise ServiceAway(f"TensorRT's {what} does not start", seen=logger.last(), fix=fix) from error


def flag_bit(enum: Any, name: str) -> int:
    """Return the bit of the flag `name`, 0 where this version has none: their numbers change between versions."""
    member = enum.__members__.get(name)
    return 0 if member is None else 1 << int(member)


def dtype_of(name: str, dtype: Any) -> np.dtype[Any]:
    """Return NumPy's type for the tensor `name` of TensorRT's `dtype`. Raises BadData for one NumPy has not."""
    known = DTYPES.get(dtype.name)
    if known is None:
        raise BadData(
            f"tensor {name}: type", seen=dtype.name, fix="use a model with float inputs and outputs"
        )
    return known
