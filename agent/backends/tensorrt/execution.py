"""Running an engine at one batch size: its context, its mapped input and outputs, and the recorded graphs.

A context of its own for each size: a recorded graph holds for one shape and one context.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from agent.backends.tensorrt.module import dtype_of
from agent.errors import BadData, ServiceAway

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from agent.backends.cuda import Cuda, Mapped
    from agent.messages import TensorSpec


class Execution:
    """Batches of `count` pictures through `engine`.

    Raises ServiceAway when the GPU has no memory for it, BadData for outputs whose size depends on the picture.
    """

    def __init__(
        self, engine: Any, cuda: Cuda, tensor: TensorSpec, outputs: Sequence[str], count: int
    ) -> None:
        self._cuda = cuda
        self._context = engine.create_execution_context()
        if self._context is None:
            fix = "use a smaller model, and stop what else uses the GPU"
            raise ServiceAway("no memory left for the GPU to run this engine", fix=fix)
        self._name = tensor.name
        shape = (count, *tensor.shape[1:])
        if not self._context.set_input_shape(self._name, shape):
            raise BadData("the engine does not take this batch", seen=shape, fix="build it again")
        self._input, self._rows = _mapped(cuda, shape, tensor.dtype)
        self._outputs = []
        for name in outputs:
            sizes = tuple(self._context.get_tensor_shape(name))
            if any(size < 0 for size in sizes):
                fix = "use a model that gives all its boxes, without NMS in the graph"
                raise BadData(f"output {name}: size depends on the picture", seen=sizes, fix=fix)
            mapped, array = _mapped(cuda, sizes, dtype_of(name, engine.get_tensor_dtype(name)))
            self._context.set_tensor_address(name, mapped.device)
            self._outputs.append(array)
        self._launches: dict[int, Callable[[], None] | None] = {}

    def write(self, tensors: Sequence[NDArray[Any]]) -> Mapped:
        """Copy `tensors` into the input, and return it."""
        for row, tensor in enumerate(tensors):
            np.copyto(self._rows[row : row + 1], tensor, casting="same_kind")
        return self._input

    def run(self, address: int) -> list[NDArray[Any]]:
        """Run on the input at the GPU's `address`; the outputs are overwritten by the next run.

        The first run from an address is queued call by call, as TensorRT asks for before a recording; from the
        second on it is one graph, if this CUDA can record it. Raises ServiceAway when the GPU fails.
        """
        launch = self._launches.get(address)
        if launch is not None:
            launch()
        else:
            self._context.set_tensor_address(self._name, address)
            if not self._enqueue():
                raise ServiceAway("TensorRT can't queue the network", fix="restart the agent; see `dmesg`")
        self._cuda.wait()
        if address not in self._launches:
            self._launches[address] = self._cuda.record(self._enqueue)
        return self._outputs

    def _enqueue(self) -> bool:
        return bool(self._context.execute_async_v3(self._cuda.stream))


def _mapped(cuda: Cuda, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Mapped, NDArray[Any]]:
    mapped = cuda.allocate(dtype.itemsize * int(np.prod(shape)))
    return mapped, mapped.host.view(dtype).reshape(shape)
