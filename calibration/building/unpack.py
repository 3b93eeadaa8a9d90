"""A .tflite whose weights are stored as FP16, made a plain float one: what is quantized must be float32 constants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

if TYPE_CHECKING:
    from collections.abc import Iterator

_IDENTIFIER = b"TFL3"


def unpack_fp16(data: bytes) -> bytes:
    """Return the .tflite `data` with its FP16 constants, each behind a DEQUANTIZE, as float32 ones."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    for graph in model.subgraphs:
        for operator in list(_unpacking(model, graph)):
            half, full = (graph.tensors[each[0]] for each in (operator.inputs, operator.outputs))
            stored = np.asarray(model.buffers[half.buffer].data, np.uint8)
            buffer = schema.BufferT()
            buffer.data = stored.view(np.float16).astype(np.float32).view(np.uint8)
            model.buffers.append(buffer)
            full.buffer = len(model.buffers) - 1
            graph.operators.remove(operator)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def _unpacking(model: Any, graph: Any) -> Iterator[Any]:
    """Yield the operators that turn a FP16 constant into float32."""
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        kind = max(code.builtinCode, code.deprecatedBuiltinCode)
        source = graph.tensors[operator.inputs[0]] if kind == schema.BuiltinOperator.DEQUANTIZE else None
        if source is None or source.type != schema.TensorType.FLOAT16:
            continue
        stored = model.buffers[source.buffer].data
        if stored is not None and len(stored):
            yield operator
