"""ONNX on the CPU by ONNX Runtime: what the ONNX artifacts of a bundle are measured with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from agent.bundle.files import read_weights
from agent.errors import BadData, InputMissing, first_line
from agent.messages import EngineInfo, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
_ONLY_ERRORS = 3


class OrtEngine:
    """One .onnx network on `threads` CPU threads: an Engine as agent.backends has it. An open batch is run as one.

    With `sha256`, the bytes that have it are those that run; without, the file may keep its weights beside it.
    Raises InputMissing without the file, BadData when the runtime refuses it or it has another hash.
    """

    def __init__(self, artifact: Path, *, precision: str, threads: int, sha256: str | None = None) -> None:
        if not artifact.is_file():
            raise InputMissing("model file", seen=artifact, fix="check the path")
        self._session = _load(artifact, threads, sha256)
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise BadData("model inputs", seen=len(inputs), fix="one image input is what the agent feeds")
        self._input = _spec(inputs[0])
        self._outputs = tuple(_spec(output) for output in self._session.get_outputs())
        self._info = EngineInfo("onnxruntime", precision, threads, 0, 0)

    @property
    def input(self) -> TensorSpec:
        """The one input."""
        return self._input

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, in the model's order."""
        return self._outputs

    @property
    def info(self) -> EngineInfo:
        """Which runtime it is."""
        return self._info

    def infer(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Run once. Raises BadData when the runtime fails."""
        try:
            return tuple(self._session.run(None, {self._input.name: tensor}))
        except Exception as error:  # the runtime's own exceptions share no public base
            raise BadData(
                "inference failed",
                seen=first_line(error) or type(error).__name__,
                fix="check the model with onnx.checker",
            ) from error

    def close(self) -> None:
        """Free the session."""
        self._session = None


def _load(artifact: Path, threads: int, sha256: str | None) -> Any:
    network = read_weights(artifact, sha256) if sha256 else str(artifact)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ONLY_ERRORS
    try:
        return ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own exceptions share no public base
        raise BadData(
            f"{artifact.name} can't be loaded by ONNX Runtime",
            seen=first_line(error) or type(error).__name__,
            fix="convert it again, or use another model",
        ) from error


def _spec(tensor: Any) -> TensorSpec:
    shape = (1, *tensor.shape[1:]) if tensor.shape and isinstance(tensor.shape[0], str) else tensor.shape
    if not all(isinstance(size, int) for size in shape):
        raise BadData(
            f"tensor {tensor.name}: shape", seen=tensor.shape, fix="give the model a fixed input size"
        )
    if tensor.type not in _DTYPES:
        raise BadData(f"tensor {tensor.name}: type", seen=tensor.type, fix="use a model of ordinary numbers")
    return TensorSpec(tensor.name, tuple(shape), np.dtype(_DTYPES[tensor.type]))
