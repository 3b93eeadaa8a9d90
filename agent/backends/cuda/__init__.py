"""The little of CUDA that an engine needs: one stream, memory that host and GPU share, and recorded work.

On a Jetson both share one memory: what is written to a mapped array is there for the GPU, without a copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agent.errors import ServiceAway

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

_INSTALL = "pip install 'edge-agent[jetson]' (cuda-bindings), or pycuda"


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """Pinned host memory, uint8 (n,), that the GPU sees at the address `device`."""

    host: NDArray[np.uint8]
    device: int


class Cuda(Protocol):
    """One stream of the first GPU, and what was allocated for it. Every call but `close` raises ServiceAway.

    That is when CUDA fails; a GPU that has failed once answers every call with its fault, also what frees.
    Any thread may call, one at a time.
    """

    @property
    def sm(self) -> str:
        """The compute capability of the GPU, such as "8.7"."""
        ...

    @property
    def stream(self) -> int:
        """The handle of the stream."""
        ...

    def allocate(self, size_bytes: int) -> Mapped:
        """Allocate mapped memory; it is freed by `close`."""
        ...

    def wait(self) -> None:
        """Sleep until all that is queued on the stream is done."""
        ...

    def record(self, enqueue: Callable[[], bool]) -> Callable[[], None] | None:
        """Record what `enqueue` queues, as a graph, and return what queues it again at once; None if that can't be."""
        ...

    def close(self) -> None:
        """Free the memory, the recordings and the stream; nothing may be queued any more."""
        ...


def open_cuda() -> Cuda:
    """Return a new stream by cuda-bindings, or by pycuda where that is what is installed.

    Raises ServiceAway without either, and without a driver or GPU that they can use.
    """
    try:
        from agent.backends.cuda.bindings import BindingsCuda
    except ImportError as bindings_error:
        try:
            from agent.backends.cuda.pycuda import PyCuda
        except ImportError as pycuda_error:
            # pycuda is there and its driver library is not: that says more than the other's absence
            missing = bindings_error if isinstance(pycuda_error, ModuleNotFoundError) else pycuda_error
            raise ServiceAway("no way to reach the GPU", seen=missing, fix=_INSTALL) from None
        return PyCuda()
    return BindingsCuda()


def cuda_fault(doing: str, said: object) -> ServiceAway:
    """Return the error for what CUDA `said`, by the names of cudaError_t and CUresult."""
    text = str(said)
    for word, (what, fix) in _KNOWN.items():
        if word in text:
            return ServiceAway(what, seen=text, fix=fix)
    return ServiceAway(f"CUDA failed: {doing}", seen=text, fix="restart the agent; see `dmesg` if it stays")


_NO_DRIVER = (
    "the NVIDIA driver is missing or too old for this CUDA",
    "on a Jetson: sudo apt install nvidia-jetpack; cuda-bindings 12.x goes with JetPack 6, 13.x with 7",
)
_NO_GPU = (
    "no GPU that this user may use",
    "a service needs /dev/nvhost*, /dev/nvmap and the groups video and render: `edge-agent system install`",
)
_NO_MEMORY = (
    "no memory left for the GPU",
    "use a smaller model or fewer engines, and stop what else uses it",
)
_KNOWN = {
    "InsufficientDriver": _NO_DRIVER,
    "SystemDriverMismatch": _NO_DRIVER,
    "driver version is insufficient": _NO_DRIVER,
    "NoDevice": _NO_GPU,
    "no CUDA-capable device": _NO_GPU,
    "MemoryAllocation": _NO_MEMORY,
    "out of memory": _NO_MEMORY,
}
