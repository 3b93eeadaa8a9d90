"""Channels brought to one range: what INT8 with one scale a tensor loses, given back by the weights around it.

A ReLU, a sum, a pooling or a resize commutes with a positive factor for each channel, and convolutions take
such factors into their weights: the network computes the same while all channels use the whole range.
Nagel et al. 2019, arXiv:1906.04721, section 4.1, with ranges measured on pictures instead of those of weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from calibration.graph.edit import Graph, attribute

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

_CHANNELWISE = ("AveragePool", "GlobalAveragePool", "MaxPool", "Relu", "Resize")
_WIDEST = 1e-3
"""A channel is spread at most until it is this fraction of its tensor's widest: dead ones stay small."""


def equalize(model: onnx.ModelProto, inputs: Iterable[NDArray[np.float32]]) -> onnx.ModelProto:
    """Return `model` with its channels brought to one range each, as seen on `inputs`, (1, 3, H, W) each."""
    graph = Graph(model)
    links = _Links(graph)
    for node in graph.nodes:
        links.visit(node)
    free = links.free_tensors()
    if not free:
        return model
    factors = links.factors(_reach(graph.finish(), free, inputs))
    for node in graph.nodes:
        if node.op_type == "Conv":
            _rescale(graph, node, factors.get(node.input[0]), factors.get(node.output[0]))
    return graph.finish()


class _Links:
    """Which channels of which tensors must share one factor, and which must stay as they are (union-find)."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._shapes = {name: shape for name, shape in graph.shapes().items() if len(shape) == 4}
        self._start: dict[str, int] = {}
        total = 1
        for name, shape in self._shapes.items():
            self._start[name] = total
            total += shape[1]
        self._parent = list(range(total))  # 0 stands for "as it is"
        for value in (*graph.model.graph.input, *graph.model.graph.output):
            self._fix(value.name)

    def visit(self, node: onnx.NodeProto) -> None:
        """Link what `node` reads and makes."""
        out = node.output[0]
        if node.op_type == "Conv" and self._foldable(node):
            return
        if node.op_type in _CHANNELWISE:
            self._join(node.input[0], out)
        elif node.op_type == "Add" and self._alike(*node.input, out):
            self._join(node.input[0], out)
            self._join(node.input[1], out)
        elif node.op_type == "Mul" and (gated := self._gated(node)) is not None:
            gate, data = gated
            self._fix(gate)
            self._join(data, out)
        elif node.op_type == "Concat" and attribute(node, "axis", 0) == 1 and self._known(*node.input, out):
            place = self._start[out]
            for part in node.input:
                for channel in range(self._shapes[part][1]):
                    self._union(self._start[part] + channel, place + channel)
                place += self._shapes[part][1]
        else:
            for name in (*node.input, *node.output):
                self._fix(name)

    def free_tensors(self) -> list[str]:
        """Return the tensors with a channel that may have a factor."""
        fixed = self._find(0)
        return [
            name
            for name, start in self._start.items()
            if any(self._find(start + c) != fixed for c in range(self._shapes[name][1]))
        ]

    def factors(self, reach: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Return the factor of each channel, by tensor, given the largest magnitude of each channel."""
        widest = np.zeros(len(self._parent))
        for name, values in reach.items():
            floor = np.maximum(values, _WIDEST * values.max())
            for channel, value in enumerate(floor):
                root = self._find(self._start[name] + channel)
                widest[root] = max(widest[root], value)
        widest[widest == 0] = 1.0
        widest[self._find(0)] = 1.0
        return {
            name: np.array(
                [1.0 / widest[self._find(start + c)] for c in range(self._shapes[name][1])], np.float32
            )
            for name, start in self._start.items()
        }

    def _foldable(self, node: onnx.NodeProto) -> bool:
        weights, group = self._graph.constant(node.input[1]), attribute(node, "group", 1)
        depthwise = weights is not None and group == weights.shape[0] and weights.shape[1] == 1
        known = self._known(node.input[0], node.output[0])
        return known and weights is not None and (group == 1 or depthwise)

    def _gated(self, node: onnx.NodeProto) -> tuple[str, str] | None:
        """Return (gate, data) of a product of a map with one number for each channel."""
        first, second = node.input
        if not self._known(first, second, node.output[0]):
            return None
        for gate, data in ((first, second), (second, first)):
            per_channel = self._shapes[gate][2:] == (1, 1) and self._shapes[gate][1] == self._shapes[data][1]
            if per_channel and self._shapes[data] == self._shapes[node.output[0]]:
                return gate, data
        return None

    def _alike(self, *names: str) -> bool:
        return self._known(*names) and len({self._shapes[name] for name in names}) == 1

    def _known(self, *names: str) -> bool:
        constant = any(self._graph.constant(name) is not None for name in names)
        return not constant and all(name in self._start for name in names)

    def _fix(self, name: str) -> None:
        if name in self._start:
            for channel in range(self._shapes[name][1]):
                self._union(self._start[name] + channel, 0)

    def _join(self, one: str, other: str) -> None:
        if not self._alike_channels(one, other):
            self._fix(one)
            self._fix(other)
            return
        for channel in range(self._shapes[one][1]):
            self._union(self._start[one] + channel, self._start[other] + channel)

    def _alike_channels(self, one: str, other: str) -> bool:
        return self._known(one, other) and self._shapes[one][1] == self._shapes[other][1]

    def _find(self, one: int) -> int:
        while self._parent[one] != one:
            self._parent[one] = self._parent[self._parent[one]]
            one = self._parent[one]
        return one

    def _union(self, one: int, other: int) -> None:
        first, second = sorted((self._find(one), self._find(other)))
        self._parent[second] = first


def _reach(
    model: onnx.ModelProto, tensors: Sequence[str], inputs: Iterable[NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Return the largest magnitude of each channel of `tensors` over `inputs`."""
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(t, TensorProto.FLOAT, None) for t in tensors)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = session.get_inputs()[0].name
    reach: dict[str, NDArray[np.float32]] = {}
    for values in inputs:
        for name, found in zip(tensors, session.run(None, {feed: values}), strict=True):
            largest = np.abs(found).max(axis=(0, 2, 3))
            reach[name] = np.maximum(reach.get(name, 0), largest)
    return reach


def _rescale(
    graph: Graph, conv: onnx.NodeProto, before: NDArray[np.float32] | None, after: NDArray[np.float32] | None
) -> None:
    weights = graph.constant(conv.input[1])
    if weights is None or before is None or after is None:
        return
    shared = attribute(conv, "group", 1) == 1
    into = before.reshape((1, -1, 1, 1) if shared else (-1, 1, 1, 1))
    graph.set_constant(conv, 1, weights * after.reshape(-1, 1, 1, 1) / into)
    if len(conv.input) > 2 and (bias := graph.constant(conv.input[2])) is not None:
        graph.set_constant(conv, 2, bias * after)
