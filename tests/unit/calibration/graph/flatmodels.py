"""Small float .tflite files, written operator by operator, and what they compute."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

if TYPE_CHECKING:
    from collections.abc import Sequence

Line = tuple[str, "Sequence[str | np.ndarray]", str, "tuple[int, ...]", Any]


def flat(
    lines: Sequence[Line], *, size: tuple[int, ...] = (1, 8, 8, 3), outputs: Sequence[str] = ("y",)
) -> bytes:
    """Return a .tflite from "x" of `size`: (kind, inputs, output, its shape, options) each; arrays are constants."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    model.operatorCodes, graph.tensors, graph.operators = [], [], []
    numbers: dict[str, int] = {}

    def tensor(name: str, shape: Sequence[int], value: np.ndarray | None = None) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.buffer = name.encode(), np.array(shape, np.int32), 0
        if value is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(value.tobytes(), np.uint8)
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
            made.type = schema.TensorType.INT32 if value.dtype == np.int32 else schema.TensorType.FLOAT32
        graph.tensors.append(made)
        return numbers.setdefault(name, len(graph.tensors) - 1)

    tensor("x", size)
    for kind, inputs, out, shape, options in lines:
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = code.builtinCode, 1
        model.operatorCodes.append(code)
        operator.opcodeIndex = len(model.operatorCodes) - 1
        read = [
            numbers[one] if isinstance(one, str) else tensor(f"{out}_{n}", one.shape, one)
            for n, one in enumerate(inputs)
        ]
        operator.inputs = np.array(read, np.int32)
        operator.outputs = np.array([tensor(out, shape)], np.int32)
        if options is not None:
            operator.builtinOptions = options
            name = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        graph.operators.append(operator)
    graph.inputs = np.array([0], np.int32)
    graph.outputs = np.array([numbers[name] for name in outputs], np.int32)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def options(kind: str, **values: Any) -> Any:
    """Return the options table of `kind`, such as "Conv2D", with `values`."""
    made = getattr(schema, f"{kind}OptionsT")()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def run(content: bytes, x: np.ndarray) -> list[np.ndarray]:
    """Return the outputs for `x`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return [interpreter.get_tensor(each["index"]) for each in interpreter.get_output_details()]
