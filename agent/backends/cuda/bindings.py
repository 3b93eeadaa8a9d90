"""CUDA by NVIDIA's own cuda-bindings, 12.6 to 13: its runtime API, which uses the primary context of the GPU."""

from __future__ import annotations

import ctypes
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from cuda.bindings import runtime

from agent.backends.cuda import Mapped, cuda_fault

if TYPE_CHECKING:
    from collections.abc import Callable


class BindingsCuda:
    """Cuda by cuda-bindings. Raises ServiceAway when the driver or the GPU is missing."""

    def __init__(self) -> None:
        self._stream = _call(runtime.cudaStreamCreateWithFlags, runtime.cudaStreamNonBlocking)
        flags = runtime.cudaEventBlockingSync | runtime.cudaEventDisableTiming
        self._event = _call(runtime.cudaEventCreateWithFlags, flags)
        self._memory: list[int] = []
        self._graphs: list[Any] = []

    @property
    def sm(self) -> str:
        """The compute capability of the GPU, such as "8.7"."""
        keys = runtime.cudaDeviceAttr
        major, minor = keys.cudaDevAttrComputeCapabilityMajor, keys.cudaDevAttrComputeCapabilityMinor
        return ".".join(str(_call(runtime.cudaDeviceGetAttribute, key, 0)) for key in (major, minor))

    @property
    def stream(self) -> int:
        """The handle of the stream."""
        return int(self._stream)

    def allocate(self, size_bytes: int) -> Mapped:
        """Allocate mapped memory; it is freed by `close`."""
        address = int(_call(runtime.cudaHostAlloc, size_bytes, runtime.cudaHostAllocMapped))
        self._memory.append(address)
        device = int(_call(runtime.cudaHostGetDevicePointer, address, 0))
        return Mapped(np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(address)), device)

    def wait(self) -> None:
        """Sleep until all that is queued on the stream is done."""
        _call(runtime.cudaEventRecord, self._event, self._stream)
        _call(runtime.cudaEventSynchronize, self._event)

    def record(self, enqueue: Callable[[], bool]) -> Callable[[], None] | None:
        """Record what `enqueue` queues, as a graph, and return what queues it again at once; None if that can't be."""
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _call(runtime.cudaStreamBeginCapture, self._stream, mode)
        queued = enqueue()
        error, graph = runtime.cudaStreamEndCapture(self._stream)
        if error == runtime.cudaError_t.cudaSuccess:
            error, executable = runtime.cudaGraphInstantiate(graph, 0)
            runtime.cudaGraphDestroy(graph)
        if error != runtime.cudaError_t.cudaSuccess:
            runtime.cudaGetLastError()  # what can't be recorded is no fault of what comes next
            return None
        self._graphs.append(executable)
        return partial(_call, runtime.cudaGraphLaunch, executable, self._stream) if queued else None

    def close(self) -> None:
        """Free the memory, the recordings and the stream; nothing may be queued any more."""
        for graph in self._graphs:
            runtime.cudaGraphExecDestroy(graph)
        for address in self._memory:
            runtime.cudaFreeHost(address)
        self._graphs, self._memory = [], []
        runtime.cudaEventDestroy(self._event)
        runtime.cudaStreamDestroy(self._stream)


def _call(function: Callable[..., Any], *args: Any) -> Any:
    """Call `function` of the runtime; return what it gives besides its error code, None if nothing."""
    error, *values = function(*args)
    if error != runtime.cudaError_t.cudaSuccess:
        raise cuda_fault(getattr(function, "__name__", "a call"), error.name)
    return values[0] if values else None
