"""A float .tflite under the knife: its one subgraph as objects of the schema, read from and written to bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from calibration.graph.flatfile import kind_of, read_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HELD = {schema.TensorType.INT8: np.int8, schema.TensorType.INT32: np.int32}


class FlatGraph:
    """The subgraph of a .tflite. Raises BadData for what is not one, is damaged, or has several subgraphs."""

    def __init__(self, data: bytes) -> None:
        self._model = read_model(data)
        self._graph = self._model.subgraphs[0]

    @property
    def operators(self) -> tuple[Any, ...]:
        """The operators (OperatorT), in order, as they are now."""
        return tuple(self._graph.operators)

    def kind(self, operator: Any) -> str:
        """Return the name of an operator, such as "CONV_2D"."""
        return kind_of(operator, self._model)

    def become(self, operator: Any, kind: str, options: Any) -> None:
        """Make `operator` one of `kind` with `options`, a table such as `ReducerOptionsT`."""
        operator.opcodeIndex = self._code(kind)
        operator.builtinOptions = options
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))

    def round_trip(self, tensor: int) -> str:
        """Let the operators that read `tensor`, one or more, read it as it comes back from INT8.

        Returns the name of the INT8 tensor, whose step is 1 and zero point 0.
        """
        graph = self._graph
        kept, back = (self._like(tensor, suffix) for suffix in ("/int8", "/real"))
        graph.tensors[kept].type = schema.TensorType.INT8
        graph.tensors[kept].quantization = schema.QuantizationParametersT(
            scale=np.ones(1, np.float32), zeroPoint=np.zeros(1, np.int64)
        )
        first = next(n for n, operator in enumerate(graph.operators) if tensor in operator.inputs)
        for operator in graph.operators:
            operator.inputs = np.where(np.asarray(operator.inputs) == tensor, np.int32(back), operator.inputs)
        steps = (("QUANTIZE", tensor, kept), ("DEQUANTIZE", kept, back))
        graph.operators[first:first] = [
            schema.OperatorT(self._code(kind), np.array([source], np.int32), np.array([made], np.int32))
            for kind, source, made in steps
        ]
        return self.name(kept)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return tuple(int(size) for size in self._graph.tensors[tensor].shape)

    def set_shape(self, tensor: int, shape: tuple[int, ...]) -> None:
        """Change the shape of a tensor."""
        self._graph.tensors[tensor].shape = np.array(shape, np.int32)
        self._graph.tensors[tensor].shapeSignature = None

    def integers(self, tensor: int) -> NDArray[np.int32]:
        """Return a constant int32 tensor."""
        data = self._model.buffers[self._graph.tensors[tensor].buffer].data
        return np.frombuffer(np.asarray(data, np.uint8).tobytes(), np.int32).reshape(self.shape(tensor))

    def floats(self, tensor: int) -> NDArray[np.float32] | None:
        """Return a constant float32 tensor, None if it is of another kind."""
        data = self._model.buffers[self._graph.tensors[tensor].buffer].data
        if data is None or len(data) == 0 or self._graph.tensors[tensor].type != schema.TensorType.FLOAT32:
            return None
        return np.frombuffer(np.asarray(data, np.uint8).tobytes(), np.float32).reshape(self.shape(tensor))

    def set_floats(self, operator: Any, index: int, value: NDArray[np.float32]) -> None:
        """Give `operator` the constant `value` as input `index`, alone, under the name of the old one."""
        inputs = np.array(operator.inputs)
        inputs[index] = self.add_constant(self.name(int(inputs[index])), value)
        operator.inputs = inputs

    def integers_held(self, tensor: int) -> tuple[NDArray[Any], NDArray[np.float64]] | None:
        """Return a quantized constant and the step of its numbers, which fits to multiply; None for what is none.

        Zero points are 0, as those of weights and biases are.
        """
        owner = self._graph.tensors[tensor]
        data, kind = self._model.buffers[owner.buffer].data, _HELD.get(owner.type)
        if kind is None or data is None or len(data) == 0 or owner.quantization is None:
            return None
        if owner.quantization.scale is None:
            return None
        values = np.frombuffer(np.asarray(data, np.uint8).tobytes(), kind).reshape(self.shape(tensor))
        sizes = [1] * values.ndim
        sizes[owner.quantization.quantizedDimension] = -1
        return values, np.asarray(owner.quantization.scale, np.float64).reshape(sizes)

    def set_integers_held(self, tensor: int, values: NDArray[Any]) -> None:
        """Change the numbers of a quantized constant, not its steps."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        self._graph.tensors[tensor].buffer = len(self._model.buffers) - 1

    def step_of(self, tensor: int) -> tuple[float, int]:
        """Return step and zero point of a quantized tensor that has one for all."""
        held = self._graph.tensors[tensor].quantization
        return float(held.scale[0]), int(held.zeroPoint[0])

    def add_constant(self, name: str, value: NDArray[Any]) -> int:
        """Add a constant, float32 or int32; return its index."""
        buffer, tensor = schema.BufferT(), schema.TensorT()
        buffer.data = np.frombuffer(value.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        tensor.name, tensor.shape = name.encode(), np.array(value.shape, np.int32)
        tensor.type = schema.TensorType.INT32 if value.dtype == np.int32 else schema.TensorType.FLOAT32
        tensor.buffer = len(self._model.buffers) - 1
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def name(self, tensor: int) -> str:
        """Return the name of a tensor."""
        name = self._graph.tensors[tensor].name
        return str(name.decode() if isinstance(name, bytes) else name)

    def producer(self, tensor: int) -> Any | None:
        """Return the operator that makes `tensor`, None for inputs and constants."""
        return next((op for op in self._graph.operators if tensor in op.outputs), None)

    def reader(self, tensor: int) -> Any | None:
        """Return the one operator that reads `tensor`; None if several do or the graph hands it out."""
        readers = [op for op in self._graph.operators if tensor in op.inputs]
        return readers[0] if len(readers) == 1 and tensor not in self._graph.outputs else None

    def drop(self, operator: Any) -> None:
        """Take out `operator`, which changes one tensor; its readers read what it read."""
        (out,), source = operator.outputs, operator.inputs[0]
        self._graph.operators.remove(operator)
        maker = self.producer(source)
        if out in self._graph.outputs and maker is not None:
            maker.outputs = np.where(np.asarray(maker.outputs) == source, out, maker.outputs)
            out, source = source, out
        for other in self._graph.operators:
            other.inputs = np.where(np.asarray(other.inputs) == out, source, other.inputs)

    def fuse(self, maker: Any, operator: Any) -> None:
        """Take out `operator`, the only reader of what `maker` makes: `maker` makes its output."""
        self._graph.operators.remove(operator)
        maker.outputs = operator.outputs

    def _code(self, kind: str) -> int:
        wanted, codes = getattr(schema.BuiltinOperator, kind), self._model.operatorCodes
        for index, code in enumerate(codes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == wanted:
                return index
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = wanted, min(wanted, 127), 1
        codes.append(code)
        return len(codes) - 1

    def _like(self, tensor: int, suffix: str) -> int:
        """Add a float tensor of the shape of `tensor`, that an operator may make; return its index."""
        made = schema.TensorT()
        made.name, made.shape = f"{self.name(tensor)}{suffix}".encode(), self._graph.tensors[tensor].shape
        made.type, made.buffer = schema.TensorType.FLOAT32, 0
        self._graph.tensors.append(made)
        return len(self._graph.tensors) - 1

    def pack(self) -> bytes:
        """Return the file, without tensors, buffers and operator codes that nothing uses."""
        self._compact()
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self._model))

    def _compact(self) -> None:
        graph, model = self._graph, self._model
        read = {int(t) for op in graph.operators for t in (*op.inputs, *op.outputs)}
        used = sorted((read | {int(t) for t in (*graph.inputs, *graph.outputs)}) - {-1})
        place = {old: new for new, old in enumerate(used)} | {-1: -1}
        graph.tensors = [graph.tensors[old] for old in used]
        for owner in (graph, *graph.operators):
            owner.inputs = np.array([place[int(t)] for t in owner.inputs], np.int32)
            owner.outputs = np.array([place[int(t)] for t in owner.outputs], np.int32)
        for signature in model.signatureDefs or ():
            for entry in (*signature.inputs, *signature.outputs):
                entry.tensorIndex = place[entry.tensorIndex]
        buffers = sorted({0, *(t.buffer for t in graph.tensors), *(m.buffer for m in model.metadata or ())})
        where = {old: new for new, old in enumerate(buffers)}
        model.buffers = [model.buffers[old] for old in buffers]
        for owner in (*graph.tensors, *(model.metadata or ())):
            owner.buffer = where[owner.buffer]
        codes = sorted({op.opcodeIndex for op in graph.operators})
        model.operatorCodes = [model.operatorCodes[old] for old in codes]
        for op in graph.operators:
            op.opcodeIndex = codes.index(op.opcodeIndex)
