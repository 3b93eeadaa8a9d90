"""CUDA by pycuda, in the primary context of the GPU, which TensorRT uses too. It can't record graphs."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from pycuda import driver

from agent.backends.cuda import Mapped, cuda_fault
from agent.errors import ServiceAway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class PyCuda:
    """Cuda by pycuda. Raises ServiceAway when the driver or the GPU is missing."""

    def __init__(self) -> None:
        with _faults("start"):
            driver.init()
            self._context = driver.Device(0).retain_primary_context()
        with self._current("stream"):
            self._stream = driver.Stream()
            flags = driver.event_flags.BLOCKING_SYNC | driver.event_flags.DISABLE_TIMING
            self._event = driver.Event(flags)
        self._memory: list[Any] = []

    @property
    def sm(self) -> str:
        """The compute capability of the GPU, such as "8.7"."""
        with _faults("device"):
            return ".".join(map(str, driver.Device(0).compute_capability()))

    @property
    def stream(self) -> int:
        """The handle of the stream."""
        return int(self._stream.handle)

    def allocate(self, size_bytes: int) -> Mapped:
        """Allocate mapped memory; it is freed by `close`."""
        with self._current("allocate"):
            mapped = driver.host_alloc_flags.DEVICEMAP
            host = driver.pagelocked_empty(size_bytes, np.uint8, mem_flags=mapped)
            self._memory.append(host.base)
            return Mapped(host, int(host.base.get_device_pointer()))

    def wait(self) -> None:
        """Sleep until all that is queued on the stream is done."""
        with self._current("wait"):
            self._event.record(self._stream)
            self._event.synchronize()

    def record(self, enqueue: Callable[[], bool]) -> Callable[[], None] | None:  # noqa: ARG002  see the module
        """Return None: pycuda has no graphs."""
        return None

    def close(self) -> None:
        """Free the memory and the stream; nothing may be queued any more."""
        with suppress(ServiceAway), self._current("close"):
            for allocation in self._memory:
                allocation.free()
            self._memory = []
            del self._event, self._stream
        with suppress(driver.Error):
            self._context.detach()

    @contextmanager
    def _current(self, doing: str) -> Iterator[None]:
        """Make the context this thread's own for a moment: an engine is opened in one thread, used in another."""
        with _faults(doing):
            self._context.push()
            try:
                yield
            finally:
                driver.Context.pop()


@contextmanager
def _faults(doing: str) -> Iterator[None]:
    try:
        yield
    except driver.Error as error:
        raise cuda_fault(doing, error) from error
