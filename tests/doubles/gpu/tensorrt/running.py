"""The double's runtime, engine and execution context."""

from __future__ import annotations

from typing import Any

import gpu_double as gpu
import numpy as np

from tensorrt import SETTINGS, __version__
from tensorrt.common import NUMPY, OF_ORT, DataType, ILogger, TensorIOMode, crash, load_session, unpack


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        if SETTINGS.get("crash") == "load":
            crash()
        found = unpack(serialized_engine)
        if found is None:
            self._logger.log(
                ILogger.ERROR, "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (magic tag)"
            )
            return None
        header, onnx = found
        if header["version"] != __version__:
            said = f"The engine plan file is not compatible with this version of TensorRT, expecting {__version__}"
            self._logger.log(ILogger.ERROR, f"{said} got {header['version']}, please rebuild.")
            return None
        return ICudaEngine(onnx, header["batch"])


class ICudaEngine:
    def __init__(self, onnx: bytes, batch: int) -> None:
        self._session, self._batch = load_session(onnx), batch
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self._tensors = {each.name: each for each in (*reversed(outputs), *inputs)}
        self._inputs = {each.name for each in inputs}
        self.num_layers = 1
        self.runs = 0

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else -1 for size in self._tensors[name].shape)

    def get_tensor_dtype(self, name: str) -> DataType:
        return OF_ORT[self._tensors[name].type]

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        first, *rest = self.get_tensor_shape(name)
        assert first < 0, "not a dynamic input"
        return [(count, *rest) for count in (1, self._batch, self._batch)]

    def create_execution_context(self) -> IExecutionContext | None:
        return None if gpu.broken["memory"] else IExecutionContext(self)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}
        (self._input,) = engine._inputs
        self._shape = engine.get_tensor_shape(self._input)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        wanted = self._engine.get_tensor_shape(name)
        fits = len(shape) == len(wanted) and all(w in (-1, s) for w, s in zip(wanted, shape, strict=True))
        if fits and shape[0] <= self._engine._batch:
            self._shape = tuple(shape)
            return True
        return False

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name == self._input:
            return self._shape
        shape = self._engine.get_tensor_shape(name)
        return (self._shape[0], *shape[1:]) if shape and shape[0] < 0 else shape

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self._engine._tensors:
            return False
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Queue the network; it reads and writes where the addresses point now."""
        if len(self._addresses) < self._engine.num_io_tensors or min(self._shape) < 0:
            return False
        addresses, shape = dict(self._addresses), self._shape
        gpu.queue(stream_handle, lambda: self._run(addresses, shape))
        return True

    def _run(self, addresses: dict[str, int], shape: tuple[int, ...]) -> None:
        self._engine.runs += 1
        if SETTINGS.get("crash") == "work" and self._engine.runs > int(SETTINGS.get("crash_after", "10")):
            crash()
        session = self._engine._session
        read = self._at(addresses[self._input], self._input, shape)
        names = [each.name for each in session.get_outputs()]
        for name, array in zip(names, session.run(names, {self._input: read.copy()}), strict=True):
            self._at(addresses[name], name, array.shape)[...] = array

    def _at(self, address: int, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        dtype = np.dtype(NUMPY[self._engine.get_tensor_dtype(name)])
        return gpu.on_device(address, dtype.itemsize * int(np.prod(shape))).view(dtype).reshape(shape)
