"""Heads that are joined channels first and transposed at the very end: joined channels last instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from calibration.graph.edit import Graph, attribute

if TYPE_CHECKING:
    import onnx


def join_channels_last(model: onnx.ModelProto) -> onnx.ModelProto:
    """Turn levels (1, C, H, W) -> (1, C, H x W), joined, -> (1, cells, C) so that each level is turned first.

    On a network that is channels last the turn of each level then costs nothing. The outputs stay the same.
    """
    graph = Graph(model)
    shapes = graph.shapes()
    for node in graph.nodes:
        if node.op_type != "Transpose" or attribute(node, "perm", []) != [0, 2, 1]:
            continue
        joined = graph.producer(node.input[0])
        if joined is None or joined.op_type != "Concat" or attribute(joined, "axis", 1) not in (2, -1):
            continue
        flat = [graph.producer(tensor) for tensor in joined.input]
        levels = [_level(graph, reshape, shapes) for reshape in flat]
        if graph.alone(joined.output[0]) and all(levels):
            _turn(graph, node, joined, [level for level in levels if level])
            graph.prune()
    return graph.finish()


def _level(
    graph: Graph, reshape: onnx.NodeProto | None, shapes: dict[str, tuple[int, ...]]
) -> tuple[str, int] | None:
    """Return the feature map that `reshape` makes one row per channel of, and its channels."""
    if reshape is None or reshape.op_type != "Reshape" or graph.constant(reshape.input[1]) is None:
        return None
    before, after = (shapes.get(tensor, ()) for tensor in (reshape.input[0], reshape.output[0]))
    if len(before) != 4 or after != (before[0], before[1], before[2] * before[3]):
        return None
    return reshape.input[0], before[1]


def _turn(
    graph: Graph, transpose: onnx.NodeProto, joined: onnx.NodeProto, levels: list[tuple[str, int]]
) -> None:
    (out,) = transpose.output
    rows, made = [], []
    for number, (tensor, channels) in enumerate(levels):
        last, row = f"{out}_level_{number}_last", f"{out}_level_{number}"
        shape = graph.add_constant(f"{row}_shape", np.array([1, -1, channels], np.int64))
        made.append(helper.make_node("Transpose", [tensor], [last], name=last, perm=[0, 2, 3, 1]))
        made.append(helper.make_node("Reshape", [last, shape], [row], name=row))
        rows.append(row)
    made.append(helper.make_node("Concat", rows, [out], name=joined.name or f"{out}_join", axis=1))
    graph.replace(transpose, made)
