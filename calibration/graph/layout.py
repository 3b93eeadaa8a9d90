"""What makes a converter to TFLite go from channels last to channels first and back: taken out.

Every such change is a transpose at run time, over the whole feature map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import helper

from calibration.graph.edit import Graph, attribute
from calibration.graph.size import image_axes

if TYPE_CHECKING:
    import onnx


def channels_first_input(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take in (1, 3, H, W) where the model takes (1, H, W, 3): what it transposes so first stays as it is.

    A converter expects channels first and would transpose what is channels last already.
    """
    graph = Graph(model)
    entry = graph.model.graph.input[0]
    sizes = [d.dim_value for d in entry.type.tensor_type.shape.dim]
    if image_axes(sizes) == (2, 3):
        return model
    last = f"{entry.name}_channels_last"
    graph.rewire(entry.name, last)
    for node in graph.consumers(last):
        if node.op_type == "Transpose" and attribute(node, "perm", []) == [0, 3, 1, 2]:
            graph.bypass(node, entry.name)
    if graph.consumers(last):
        turn = helper.make_node("Transpose", [entry.name], [last], name=last, perm=[0, 2, 3, 1])
        graph.model.graph.node.insert(0, turn)
    for dim, size in zip(entry.type.tensor_type.shape.dim, (sizes[0], sizes[3], *sizes[1:3]), strict=True):
        dim.dim_value = size
    return graph.finish()


def drop_idle_reshapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take out reshapes of a tensor to the shape that it has."""
    graph = Graph(model)
    shapes = graph.shapes()
    for node in graph.nodes:
        same = shapes.get(node.input[0]) == shapes.get(node.output[0]) is not None if node.input else False
        if node.op_type in ("Reshape", "Identity") and same and graph.producer(node.input[0]) is not None:
            graph.bypass(node, node.input[0])
    return graph.finish()


def sized_pooling(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write pooling over the whole map as average pooling of that size, which stays channels last."""
    graph = Graph(model)
    shapes = graph.shapes()
    for node in graph.nodes:
        size = shapes.get(node.input[0], ())[2:] if node.op_type == "GlobalAveragePool" else ()
        if len(size) == 2:
            graph.replace(
                node, [helper.make_node("AveragePool", node.input, node.output, kernel_shape=list(size))]
            )
    return graph.finish()


def relu_before_concat(model: onnx.ModelProto) -> onnx.ModelProto:
    """Move a ReLU of a concatenation into each of its parts, where a convolution can take it in."""
    graph = Graph(model)
    for node in graph.nodes:
        joined = graph.producer(node.input[0]) if node.op_type == "Relu" else None
        if joined is None or joined.op_type != "Concat" or not graph.alone(joined.output[0]):
            continue
        parts = [f"{node.output[0]}_part_{index}" for index in range(len(joined.input))]
        relus = [
            helper.make_node("Relu", [tensor], [part])
            for tensor, part in zip(joined.input, parts, strict=True)
        ]
        axis = attribute(joined, "axis", 1)
        graph.replace(joined, [*relus, helper.make_node("Concat", parts, node.output, axis=axis)])
        graph.remove(node)
    return graph.finish()
