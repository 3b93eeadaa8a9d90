"""Small ONNX models, and what they compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Node = tuple[str, "Sequence[str]", str, "Mapping[str, object]"]


def model(
    nodes: Sequence[Node],
    constants: Mapping[str, np.ndarray],
    *,
    size: Sequence[int | str] = (1, 3, 8, 8),
    opset: int = 14,
    outputs: Sequence[str] = ("y",),
) -> onnx.ModelProto:
    """Return a model from "x" of `size` to `outputs`: (operator, inputs, output, attributes) each."""
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, [out], name=out, **more) for kind, inputs, out, more in nodes],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(size))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


def run(made: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    """Return the outputs for `x`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": x}))


def kinds(made: onnx.ModelProto) -> list[str]:
    """Return the operators, sorted."""
    return sorted(node.op_type for node in made.graph.node)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Return normal float32 numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
