"""Constant factors and terms move into the weights of a convolution: fewer operators, the same result.

Each small operator costs an INT8 network twice, in time and in one more rounding to 8 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from calibration.graph.edit import Graph

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

_HOMOGENEOUS = ("AveragePool", "GlobalAveragePool", "MaxPool", "Relu", "Resize", "Transpose")
"""f(k x) = k f(x) for k > 0."""


def fold_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold multiplications by a positive number, and additions of a number, into convolutions nearby."""
    graph = Graph(model)
    for node in graph.nodes:
        if node.op_type in ("Mul", "Div"):
            _fold_factor(graph, node)
        elif node.op_type == "Add":
            _fold_term(graph, node)
    return graph.finish()


def _fold_factor(graph: Graph, node: onnx.NodeProto) -> None:
    found = _operands(graph, node)
    if found is None:
        return
    tensor, factor = found
    if factor <= 0:
        return
    if node.op_type == "Div":
        if tensor != node.input[0]:
            return
        factor = 1 / factor
    maker = _convolution(graph, tensor)
    if maker is not None:
        _scale(graph, maker, factor, output=True)
        graph.bypass(node, tensor)
        return
    steps = _absorb(graph, node.output[0], factor, seen=set())
    if steps is not None:
        for step in steps:
            step()
        graph.bypass(node, tensor)


def _fold_term(graph: Graph, node: onnx.NodeProto) -> None:
    found = _operands(graph, node)
    maker = None if found is None else _convolution(graph, found[0])
    if found is None or maker is None:
        return
    graph.set_constant(maker, 2, _bias(graph, maker) + np.float32(found[1]))
    graph.bypass(node, found[0])


def _operands(graph: Graph, node: onnx.NodeProto) -> tuple[str, float] | None:
    """Return the tensor and the number that `node` joins, None if it is of another kind."""
    first, second = node.input
    if graph.constant(first) is None and (number := graph.scalar(second)) is not None:
        return first, number
    if graph.constant(second) is None and (number := graph.scalar(first)) is not None:
        return second, number
    return None


def _convolution(graph: Graph, tensor: str) -> onnx.NodeProto | None:
    """Return the convolution that makes `tensor`, if its weights are constants and one node alone sees it."""
    maker = graph.producer(tensor)
    if maker is None or maker.op_type != "Conv" or not graph.alone(tensor):
        return None
    return maker if all(graph.constant(name) is not None for name in maker.input[1:]) else None


def _absorb(graph: Graph, tensor: str, factor: float, seen: set[str]) -> list[Callable[[], None]] | None:
    """Return the edits that let `tensor` be `factor` times smaller and all else as before; None: impossible.

    The factor goes with the data, through what is homogeneous, until convolutions take it in.
    """
    consumers = graph.consumers(tensor)
    if graph.is_output(tensor) or not consumers or tensor in seen:
        return None
    seen.add(tensor)
    steps: list[Callable[[], None]] = []
    for node in consumers:
        more = _absorb_in(graph, node, tensor, factor, seen)
        if more is None:
            return None
        steps += more
    return steps


def _absorb_in(
    graph: Graph, node: onnx.NodeProto, tensor: str, factor: float, seen: set[str]
) -> list[Callable[[], None]] | None:
    def onward() -> list[Callable[[], None]] | None:
        return _absorb(graph, node.output[0], factor, seen)

    if node.op_type == "Conv" and node.input[0] == tensor and graph.constant(node.input[1]) is not None:
        return [lambda: _scale(graph, node, factor, output=False)]
    if node.op_type in _HOMOGENEOUS:
        return onward()
    if node.op_type == "Mul" and node.input[0] != node.input[1]:
        return onward()
    if node.op_type == "Add":
        other = node.input[1] if node.input[0] == tensor else node.input[0]
        maker = _convolution(graph, other)
        if maker is not None and (rest := onward()) is not None:
            return [lambda: _scale(graph, maker, 1 / factor, output=True), *rest]
    return None


def _scale(graph: Graph, conv: onnx.NodeProto, factor: float, *, output: bool) -> None:
    """Scale what `conv` gives (`output`, with its bias) or only its weights, for an input that shrank."""
    weights = graph.constant(conv.input[1])
    if weights is None:
        raise ValueError(f"{conv.name}: the weights are computed")
    graph.set_constant(conv, 1, weights * np.float32(factor))
    if output and len(conv.input) > 2:
        graph.set_constant(conv, 2, _bias(graph, conv) * np.float32(factor))


def _bias(graph: Graph, conv: onnx.NodeProto) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return the bias of `conv`, zeros (outputs,) when it has none."""
    bias = graph.constant(conv.input[2]) if len(conv.input) > 2 else None
    if bias is not None:
        return bias
    weights = graph.constant(conv.input[1])
    if weights is None:
        raise ValueError(f"{conv.name}: the weights are computed")
    return np.zeros(len(weights), np.float32)
