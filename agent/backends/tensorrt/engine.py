"""A TensorRT engine at work: mapped memory, one stream, a CUDA graph for each batch size."""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.backends.cuda import open_cuda
from agent.backends.tensorrt.execution import Execution
from agent.backends.tensorrt.module import create, dtype_of, load_tensorrt, make_log
from agent.errors import BadData
from agent.messages import EngineInfo, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from agent.backends.cuda import Mapped

_LENT = 4
"""Inputs that are lent at most: three frames are in work at full speed, and one is being written."""
_BUILD_AGAIN = "build it again: `edge-agent engine build`"


class TensorRTEngine:
    """The engine `plan` on the first GPU. One thread at a time.

    `outputs` are the outputs' names in the ONNX file's order, which an engine need not keep. FP16 inputs and
    outputs are float32 outside. Raises BadData when TensorRT refuses the plan, ServiceAway without it, a driver
    or a GPU. A plan is code: it must come from where only this program writes.
    """

    def __init__(self, plan: bytes, *, precision: str, outputs: Sequence[str]) -> None:
        with contextlib.ExitStack() as undo:
            self._cuda = open_cuda()  # before TensorRT: its lean runtime crashes without a driver
            undo.callback(self._cuda.close)
            trt = load_tensorrt()
            self._logger = make_log(trt)
            self._runtime = create(trt, "Runtime", self._logger)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            if self._engine is None:
                seen = self._logger.last()
                raise BadData("TensorRT can't load this engine", seen=seen, fix=_BUILD_AGAIN)
            inside_in, inside_out = _tensors(trt, self._engine, outputs)
            self._input, self._outputs = _outside(inside_in), tuple(map(_outside, inside_out))
            self._inside = inside_in
            self._batch = _largest_batch(self._engine, inside_in.name, outputs)
            self._executions: dict[int, Execution] = {}
            self._execution(1)
            self._free: list[Mapped] = self._allocate_lent()
            undo.pop_all()
        self._lent: dict[int, Mapped] = {}
        nodes = self._engine.num_layers
        self._info = EngineInfo("tensorrt", precision, 0, nodes, nodes)
        self._closed = False

    @property
    def input(self) -> TensorSpec:
        """The one input, for one picture."""
        return self._input

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs for one picture, in the order of the ONNX file."""
        return self._outputs

    @property
    def info(self) -> EngineInfo:
        """TensorRT takes the whole graph; it uses no CPU threads."""
        return self._info

    @property
    def batch(self) -> int:
        """The most pictures that one run takes."""
        return self._batch

    def lend(self) -> NDArray[Any]:
        """Return an array to write the next picture to: memory that the GPU reads, while there is some free.

        It comes back by itself when nobody holds the array any more, nor a part of it.
        """
        if self._closed or not self._free:
            return np.empty(self._input.shape, self._input.dtype)
        mapped = self._free.pop()
        whole = np.frombuffer(mapped.host.data, self._input.dtype)  # what all its parts and shapes hold
        self._lent[mapped.host.ctypes.data] = mapped
        weakref.finalize(whole, self._take_back, mapped.host.ctypes.data).atexit = False
        return whole.reshape(self._input.shape)

    def infer(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Run once; the outputs are the caller's own. The GIL is free while the GPU works."""
        return self.infer_batch([tensor])[0]

    def infer_batch(self, tensors: Sequence[NDArray[Any]]) -> list[tuple[NDArray[Any], ...]]:
        """Run once for all `tensors`, 1 to `batch` of them, and return the outputs of each.

        Raises BadData for a tensor of another shape or type, ServiceAway when the GPU fails.
        """
        if self._closed:
            raise RuntimeError("an engine was used after it was closed")
        if not 1 <= len(tensors) <= self._batch:
            raise ValueError(f"{len(tensors)} pictures for an engine of 1 to {self._batch}")
        for tensor in tensors:
            if tensor.shape != self._input.shape or tensor.dtype != self._input.dtype:
                seen, wanted = (f"{each.dtype} {each.shape}" for each in (tensor, self._input))
                raise BadData("input of the engine", seen=seen, fix=f"it takes {wanted}")
        execution = self._execution(len(tensors))
        lent = self._lent_at(tensors[0]) if len(tensors) == 1 else None
        if lent is None:
            lent = execution.write(tensors)
        batched = execution.run(lent.device)
        return [
            tuple(self._own(array, row, spec) for array, spec in zip(batched, self._outputs, strict=True))
            for row in range(len(tensors))
        ]

    def _own(self, batched: NDArray[Any], row: int, spec: TensorSpec) -> NDArray[Any]:
        """Return the caller's copy of one picture's part of an output."""
        part = batched if self._batch == 1 else batched[row : row + 1]
        return part.astype(spec.dtype)

    def close(self) -> None:
        """Release the engine; its memory goes when the last array that is lent has come back."""
        if self._closed:
            return
        self._closed = True
        self._executions.clear()
        self._free.clear()
        self._engine = self._runtime = None
        if not self._lent:
            self._cuda.close()

    def _execution(self, count: int) -> Execution:
        """Return what runs batches of `count`; it is made when it is first needed."""
        if count not in self._executions:
            names = tuple(spec.name for spec in self._outputs)
            self._executions[count] = Execution(self._engine, self._cuda, self._inside, names, count)
        return self._executions[count]

    def _allocate_lent(self) -> list[Mapped]:
        if self._input.dtype != self._inside.dtype:
            return []  # it is converted anyway
        size_bytes = self._inside.dtype.itemsize * int(np.prod(self._inside.shape))
        return [self._cuda.allocate(size_bytes) for _ in range(_LENT)]

    def _lent_at(self, given: NDArray[Any]) -> Mapped | None:
        """Return the lent memory that `given` is, None for any other."""
        return self._lent.get(given.ctypes.data) if given.flags.c_contiguous else None

    def _take_back(self, address: int) -> None:
        mapped = self._lent.pop(address)
        if not self._closed:
            self._free.append(mapped)
        elif not self._lent:
            self._cuda.close()


def _tensors(trt: Any, engine: Any, outputs: Sequence[str]) -> tuple[TensorSpec, tuple[TensorSpec, ...]]:
    """Return the input and the `outputs`, in that order, as the engine has them for one picture."""
    modes = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        modes[name] = engine.get_tensor_mode(name)
    inputs = [name for name, mode in modes.items() if mode == trt.TensorIOMode.INPUT]
    found = [name for name, mode in modes.items() if mode == trt.TensorIOMode.OUTPUT]
    if len(inputs) != 1 or sorted(found) != sorted(outputs):
        seen = f"inputs {', '.join(inputs)}; outputs {', '.join(found)}"
        raise BadData("this engine is of another model", seen=seen, fix=_BUILD_AGAIN)
    return _spec(engine, inputs[0]), tuple(_spec(engine, name) for name in outputs)


def _spec(engine: Any, name: str) -> TensorSpec:
    shape = tuple(engine.get_tensor_shape(name))
    one = (1, *shape[1:]) if _is_open(shape) else shape
    return TensorSpec(name, one, dtype_of(name, engine.get_tensor_dtype(name)))


def _is_open(shape: Sequence[int]) -> bool:
    """Tell whether the first dimension is left open: a single number has none."""
    return bool(shape) and shape[0] < 0


def _outside(spec: TensorSpec) -> TensorSpec:
    """Return the tensor as callers see it: float32 for half precision."""
    if spec.dtype != np.float16:
        return spec
    return TensorSpec(spec.name, spec.shape, np.dtype(np.float32))


def _largest_batch(engine: Any, name: str, outputs: Sequence[str]) -> int:
    """Return the largest batch of the input `name`, 1 where not all of input and outputs have an open one."""
    if not all(_is_open(tuple(engine.get_tensor_shape(each))) for each in (name, *outputs)):
        return 1
    _, _, largest = engine.get_tensor_profile_shape(name, 0)
    return int(largest[0])
