"""Hard-swish and hard-sigmoid spelled as what runs in INT8: an addition, a clip and a multiplication.

XNNPACK, as of LiteRT 2.3, has both as one operator in float only: in INT8 they fall back to the reference
kernels and cut the network in pieces. x + 3 clipped to 0..6 is one INT8 addition with a fused ReLU6, the
product is one multiplication, and the sixth moves into the next convolution (`fold_constants`).
Howard et al. 2019, arXiv:1905.02244, section 5.2: h-swish(x) = x ReLU6(x + 3) / 6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from calibration.graph.edit import Graph, attribute

if TYPE_CHECKING:
    import onnx

_CLIP_WITH_INPUTS = 11
"""The operator set since when Clip takes its bounds as inputs."""


def spell_out_activations(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace HardSwish and HardSigmoid (slope 1/6, offset 1/2) by Add, Clip and Mul."""
    graph = Graph(model)
    if graph.opset < _CLIP_WITH_INPUTS:
        return model
    for node in graph.nodes:
        if node.op_type == "HardSwish":
            gate = f"{node.output[0]}_gate"
            gated = helper.make_node("Mul", [node.input[0], gate], node.output)
            graph.replace(node, [*_hard_sigmoid(graph, node.input[0], gate), gated])
        elif node.op_type == "HardSigmoid" and _is_of_mobilenet(node):
            graph.replace(node, _hard_sigmoid(graph, node.input[0], node.output[0]))
    return graph.finish()


def _is_of_mobilenet(node: onnx.NodeProto) -> bool:
    alpha, beta = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
    return bool(abs(alpha - 1 / 6) < 1e-3 and beta == 0.5)


def _hard_sigmoid(graph: Graph, tensor: str, out: str) -> list[onnx.NodeProto]:
    """Return the nodes of ReLU6(x + 3) / 6."""
    three, zero, six, sixth = (
        graph.add_constant(f"{out}_{name}", np.array(value, np.float32))
        for name, value in (("three", 3.0), ("zero", 0.0), ("six", 6.0), ("sixth", 1 / 6))
    )
    return [
        helper.make_node("Add", [tensor, three], [f"{out}_shifted"]),
        helper.make_node("Clip", [f"{out}_shifted", zero, six], [f"{out}_clipped"]),
        helper.make_node("Mul", [f"{out}_clipped", sixth], [out]),
    ]
