"""A double of a GPU: memory with addresses, streams that do their work when somebody waits, recorded graphs."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

OFFSET = 1 << 52
"""Device addresses differ from the host's: one must not be taken for the other."""

SM = (8, 7)
"""Its compute capability: an Orin's."""

memory: dict[int, NDArray[np.uint8]] = {}
"""What is allocated, by host address."""
streams: dict[int, list[Callable[[], None]]] = {}
"""The work that waits on each stream."""
recording: dict[int, list[Callable[[], None]]] = {}
"""What is recorded of each stream that records."""
counts = {"queued": 0, "launched": 0, "waits": 0}
broken = {"memory": False, "capture": False, "graph": False, "all": False}
"""What a test may break: allocations fail; recordings fail; what is recorded can't be made a graph; after a fault of
the GPU every call fails."""


def allocate(size_bytes: int) -> int:
    """Return the host address of new memory, full of 0xAA; 0 when there is none."""
    if broken["memory"]:
        return 0
    array = np.full(size_bytes, 0xAA, np.uint8)
    memory[array.ctypes.data] = array
    return int(array.ctypes.data)


def free(address: int) -> bool:
    """Free what is at `address`; what was there is overwritten."""
    array = memory.pop(address, None)
    if array is None:
        return False
    array.fill(0xDD)
    return True


def on_device(address: int, size_bytes: int) -> NDArray[np.uint8]:
    """Return the memory at the device's `address`. Raises ValueError where nothing is allocated."""
    host = address - OFFSET
    for start, array in memory.items():
        if start <= host and host + size_bytes <= start + len(array):
            return np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(host))
    raise ValueError(f"nothing is allocated at device address {address:#x} for {size_bytes} bytes")


def new_stream() -> int:
    """Return the handle of a new stream."""
    handle = 0x1000 + 0x10 * len(streams) + 0x10
    while handle in streams:
        handle += 0x10
    streams[handle] = []
    return handle


def queue(stream: int, work: Callable[[], None]) -> None:
    """Queue `work`, or record it. Raises KeyError for a stream that is none."""
    if stream in recording:
        recording[stream].append(work)
        return
    counts["queued"] += 1
    streams[stream].append(work)


def wait(stream: int) -> None:
    """Do all the work of `stream`."""
    counts["waits"] += 1
    while streams[stream]:
        streams[stream].pop(0)()
