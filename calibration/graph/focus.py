"""YOLOX's focus stem as one convolution: the picture is not taken apart into strided slices first.

Four slices of every other row and column, joined, and a k x k convolution: that is a 2k x 2k convolution
of twice the stride.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from calibration.graph.edit import Graph, attribute

if TYPE_CHECKING:
    import onnx

_AXES = (2, 3)


def fold_focus(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace slices, concatenation and convolution by one convolution of twice the stride."""
    graph = Graph(model)
    for node in graph.nodes:
        if node.op_type == "Conv":
            _fuse(graph, node)
    return graph.finish()


def _fuse(graph: Graph, conv: onnx.NodeProto) -> None:
    joined, weights = graph.producer(conv.input[0]), graph.constant(conv.input[1])
    if weights is None or joined is None or joined.op_type != "Concat" or attribute(joined, "axis", 0) != 1:
        return
    if len(graph.consumers(joined.output[0])) > 1 or attribute(conv, "group", 1) != 1:
        return
    parts = [_phase(graph, part) for part in joined.input]
    sources = {part[0] for part in parts if part is not None}
    phases = [part[1] for part in parts if part is not None]
    if attribute(conv, "dilations", [1, 1]) != [1, 1] or attribute(conv, "auto_pad", b"NOTSET") != b"NOTSET":
        return
    if len(sources) != 1 or sorted(phases) != [(0, 0), (0, 1), (1, 0), (1, 1)]:
        return
    outputs, inputs, height, width = weights.shape
    channels = inputs // 4
    wide = np.zeros((outputs, channels, 2 * height, 2 * width), weights.dtype)
    for block, (row, column) in enumerate(phases):
        wide[:, :, row::2, column::2] = weights[:, block * channels : (block + 1) * channels]
    graph.set_constant(conv, 1, wide)
    new = helper.make_node(
        "Conv",
        [sources.pop(), *conv.input[1:]],
        conv.output,
        name=conv.name,
        kernel_shape=[2 * height, 2 * width],
        strides=[2 * stride for stride in attribute(conv, "strides", [1, 1])],
        pads=[2 * pad for pad in attribute(conv, "pads", [0, 0, 0, 0])],
    )
    graph.replace(conv, [new])
    graph.prune()


def _phase(graph: Graph, tensor: str) -> tuple[str, tuple[int, int]] | None:
    """Return what `tensor` is every other row and column of, and which of the two it begins with."""
    begins: dict[int, int] = {}
    while (node := graph.producer(tensor)) is not None and node.op_type == "Slice":
        values = [graph.constant(name) for name in node.input[1:]]
        if len(values) != 4 or any(value is None or value.size != 1 for value in values):
            return None
        begin, end, axis, step = (int(value.item()) for value in values if value is not None)
        if step != 2 or axis not in _AXES or axis in begins or end < np.iinfo(np.int32).max:
            return None
        begins[axis] = begin
        tensor = node.input[0]
    return (tensor, (begins[2], begins[3])) if set(begins) == set(_AXES) else None
