"""A double of `cuda.bindings.runtime`: every call returns its error code first, as the real ones do."""

from __future__ import annotations

import enum
import itertools
from typing import Any

import gpu_double as gpu

cudaStreamNonBlocking = 1
cudaEventBlockingSync = 1
cudaEventDisableTiming = 2
cudaHostAllocMapped = 2


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorInvalidResourceHandle = 400
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureInvalidated = 901


class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


class cudaDeviceAttr(enum.IntEnum):
    cudaDevAttrComputeCapabilityMajor = 75
    cudaDevAttrComputeCapabilityMinor = 76


_OK = cudaError_t.cudaSuccess
_HANDLE = cudaError_t.cudaErrorInvalidResourceHandle
_graphs: dict[int, list[Any]] = {}
_events: dict[int, int] = {}
_numbers = itertools.count(0x9000)


def _ended(thing: object) -> cudaError_t:
    """Return what the end of `thing` gives, None for one that is none; a GPU that has failed says so each time."""
    if gpu.broken["all"]:
        return cudaError_t.cudaErrorIllegalAddress
    return _HANDLE if thing is None else _OK


def cudaDeviceGetAttribute(attr: cudaDeviceAttr, device: int) -> tuple[Any, ...]:
    return _OK, gpu.SM[attr == cudaDeviceAttr.cudaDevAttrComputeCapabilityMinor]


def cudaStreamCreateWithFlags(flags: int) -> tuple[Any, ...]:
    return _OK, gpu.new_stream()


def cudaStreamDestroy(stream: int) -> tuple[Any, ...]:
    return (_ended(gpu.streams.pop(stream, None)),)


def cudaEventCreateWithFlags(flags: int) -> tuple[Any, ...]:
    number = next(_numbers)
    _events[number] = 0
    return _OK, number


def cudaEventRecord(event: int, stream: int) -> tuple[Any, ...]:
    if event not in _events or stream not in gpu.streams:
        return (_HANDLE,)
    _events[event] = stream
    return (_OK,)


def cudaEventSynchronize(event: int) -> tuple[Any, ...]:
    if event not in _events:
        return (_HANDLE,)
    gpu.wait(_events[event])
    return (cudaError_t.cudaErrorIllegalAddress if gpu.broken["all"] else _OK,)


def cudaEventDestroy(event: int) -> tuple[Any, ...]:
    return (_ended(_events.pop(event, None)),)


def cudaHostAlloc(size: int, flags: int) -> tuple[Any, ...]:
    address = gpu.allocate(size)
    return (_OK, address) if address else (cudaError_t.cudaErrorMemoryAllocation, None)


def cudaHostGetDevicePointer(pHost: int, flags: int) -> tuple[Any, ...]:
    if pHost not in gpu.memory:
        return cudaError_t.cudaErrorInvalidValue, None
    return _OK, pHost + gpu.OFFSET


def cudaFreeHost(ptr: int) -> tuple[Any, ...]:
    return (_ended(gpu.free(ptr) or None),)


def cudaStreamBeginCapture(stream: int, mode: Any) -> tuple[Any, ...]:
    if stream not in gpu.streams:
        return (_HANDLE,)
    gpu.recording[stream] = []
    return (_OK,)


def cudaStreamEndCapture(stream: int) -> tuple[Any, ...]:
    recorded = gpu.recording.pop(stream)
    if gpu.broken["capture"]:
        return cudaError_t.cudaErrorStreamCaptureInvalidated, None
    number = next(_numbers)
    _graphs[number] = recorded
    return _OK, number


def cudaGraphInstantiate(graph: int, flags: int) -> tuple[Any, ...]:
    if gpu.broken["graph"]:
        return cudaError_t.cudaErrorMemoryAllocation, None
    number = next(_numbers)
    _graphs[number] = _graphs[graph]
    return _OK, number


def cudaGraphLaunch(graphExec: int, stream: int) -> tuple[Any, ...]:
    if graphExec not in _graphs or stream not in gpu.streams:
        return (_HANDLE,)
    gpu.counts["launched"] += 1
    gpu.streams[stream].extend(_graphs[graphExec])
    return (_OK,)


def cudaGraphDestroy(graph: int) -> tuple[Any, ...]:
    return (_OK if _graphs.pop(graph, None) is not None else _HANDLE,)


def cudaGraphExecDestroy(graphExec: int) -> tuple[Any, ...]:
    return (_ended(_graphs.pop(graphExec, None)),)


def cudaGetLastError() -> tuple[Any, ...]:
    return (_OK,)
