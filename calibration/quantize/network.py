"""A float .tflite as a graph: operators, what they read and write, and how much they multiply."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from agent.errors import BadData, InputMissing
from calibration.graph.flatfile import kind_of, read_model

if TYPE_CHECKING:
    from pathlib import Path

_FUSED = {code: name for name, code in vars(schema.ActivationFunctionType).items() if isinstance(code, int)}
_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: `constant` for weights and shapes, `value` that of a real constant of one element."""

    name: str
    shape: tuple[int, ...]
    real: bool
    constant: bool
    value: float | None = None

    @property
    def size(self) -> int:
        """How many elements it has."""
        return int(np.prod(self.shape))


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator; `macs` counts its multiplications.

    `name`, its outputs joined by ";", is what the quantizer calls it; `fused` the activation within it.
    """

    name: str
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    macs: int
    fused: str = "NONE"

    @property
    def weighted(self) -> bool:
        """Whether it has weights to multiply with."""
        return self.macs > 0


@dataclass(frozen=True)
class Network:
    """The operators in the order they run, with the tensors their numbers stand for."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(operator.macs for operator in self.operators)

    @cached_property
    def producer(self) -> dict[int, int]:
        """The number of the operator that writes a tensor."""
        return {tensor: n for n, operator in enumerate(self.operators) for tensor in operator.outputs}

    @cached_property
    def consumers(self) -> dict[int, tuple[int, ...]]:
        """The numbers of the operators that read a tensor."""
        readers: dict[int, list[int]] = {}
        for n, operator in enumerate(self.operators):
            for tensor in operator.inputs:
                readers.setdefault(tensor, []).append(n)
        return {tensor: tuple(numbers) for tensor, numbers in readers.items()}

    @cached_property
    def activations(self) -> tuple[int, ...]:
        """The tensors whose values depend on the input and are real numbers."""
        written = {*self.inputs, *self.producer}
        return tuple(n for n, tensor in enumerate(self.tensors) if n in written and tensor.real)


def read_network(file: Path) -> Network:
    """Read the one graph of `file`. Raises InputMissing, BadData for what is no float .tflite."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputMissing(f"can't read {file}", seen=error.strerror, fix="check the path") from None
    model = read_model(content, file.name)
    graph = model.subgraphs[0]
    tensors = tuple(_tensor(tensor, model.buffers) for tensor in graph.tensors)
    if any(
        tensor.quantization is not None and tensor.quantization.scale is not None for tensor in graph.tensors
    ):
        fix = "start from the float version of the model"
        raise BadData(f"{file.name} is quantized already", seen="scales", fix=fix)
    operators = tuple(_operator(operator, kind_of(operator, model), tensors) for operator in graph.operators)
    return Network(tensors, operators, tuple(map(int, graph.inputs)), tuple(map(int, graph.outputs)))


def _tensor(tensor: Any, buffers: list[Any]) -> Tensor:
    shape = () if tensor.shape is None else tuple(map(int, tensor.shape))
    data = buffers[tensor.buffer].data
    real = tensor.type in (schema.TensorType.FLOAT32, schema.TensorType.FLOAT16)
    value = None
    if real and data is not None and len(data) == _FLOAT32_BYTES:
        value = float(np.frombuffer(bytes(data), np.float32)[0])
    return Tensor(tensor.name.decode(), shape, real, data is not None and len(data) > 0, value)


def _operator(operator: Any, kind: str, tensors: tuple[Tensor, ...]) -> Operator:
    inputs = tuple(int(n) for n in operator.inputs if n >= 0)
    outputs = tuple(int(n) for n in operator.outputs)
    name = ";".join(tensors[n].name for n in outputs)
    fused = _FUSED[getattr(operator.builtinOptions, "fusedActivationFunction", 0)]
    return Operator(name, kind, inputs, outputs, _macs(kind, inputs, outputs, tensors), fused)


def _macs(kind: str, inputs: tuple[int, ...], outputs: tuple[int, ...], tensors: tuple[Tensor, ...]) -> int:
    if kind == "CONV_2D":
        return tensors[outputs[0]].size * int(np.prod(tensors[inputs[1]].shape[1:]))
    if kind == "DEPTHWISE_CONV_2D":
        return tensors[outputs[0]].size * int(np.prod(tensors[inputs[1]].shape[1:3]))
    if kind == "FULLY_CONNECTED":
        return tensors[outputs[0]].size * tensors[inputs[1]].shape[-1]
    if kind == "TRANSPOSE_CONV":
        kernel = tensors[inputs[1]].shape
        return tensors[inputs[2]].size * kernel[0] * kernel[1] * kernel[2]
    if kind == "BATCH_MATMUL":
        return tensors[outputs[0]].size * tensors[inputs[0]].shape[-1]
    return 0
