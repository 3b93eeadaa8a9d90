"""A double of `pycuda.driver`. As with the real one, every call needs a context that is current in its thread."""

from __future__ import annotations

import threading
from typing import Any

import gpu_double as gpu
import numpy as np

_current = threading.local()


class Error(Exception):
    """What pycuda raises."""


class LogicError(Error):
    """A call that makes no sense."""


class MemoryError(Error):
    """No memory left."""


class event_flags:
    BLOCKING_SYNC = 1
    DISABLE_TIMING = 2


class host_alloc_flags:
    DEVICEMAP = 2


def init() -> None:
    """Start."""


def _stack() -> list[Any]:
    if not hasattr(_current, "stack"):
        _current.stack = []
    return _current.stack


def _need_context() -> None:
    if not _stack():
        raise LogicError(
            "explicit_context_dependent failed: invalid device context - no currently active context?"
        )


class Context:
    def push(self) -> None:
        _stack().append(self)

    @staticmethod
    def pop() -> None:
        _need_context()
        _stack().pop()

    def detach(self) -> None:
        """Let go."""


class Device:
    def __init__(self, number: int) -> None:
        if number:
            raise LogicError("cuDeviceGet failed: invalid device ordinal")

    def compute_capability(self) -> tuple[int, int]:
        return gpu.SM

    def retain_primary_context(self) -> Context:
        return Context()


class Stream:
    def __init__(self, flags: int = 0) -> None:
        _need_context()
        self.handle = gpu.new_stream()

    def __del__(self) -> None:
        gpu.streams.pop(self.handle, None)


class Event:
    def __init__(self, flags: int = 0) -> None:
        _need_context()
        self._stream = 0

    def record(self, stream: Stream | None = None) -> Event:
        _need_context()
        assert stream is not None
        self._stream = stream.handle
        return self

    def synchronize(self) -> Event:
        _need_context()
        gpu.wait(self._stream)
        return self


class _Allocation:
    """The base of a page-locked array."""

    def __init__(self, size_bytes: int) -> None:
        self._address = gpu.allocate(size_bytes)
        if not self._address:
            raise MemoryError("cuMemHostAlloc failed: out of memory")
        self.__array_interface__ = {
            "data": (self._address, False),
            "shape": (size_bytes,),
            "typestr": "|u1",
            "version": 3,
        }

    def get_device_pointer(self) -> int:
        return self._address + gpu.OFFSET

    def free(self) -> None:
        gpu.free(self._address)


def pagelocked_empty(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray[Any, Any]:
    _need_context()
    assert np.dtype(dtype) == np.uint8
    assert mem_flags == host_alloc_flags.DEVICEMAP
    return np.asarray(_Allocation(int(shape)))
