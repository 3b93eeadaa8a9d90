"""What a converter leaves in a float .tflite and what XNNPACK does not run in INT8: taken out or rewritten.

As of LiteRT 2.3 XNNPACK takes neither AVERAGE_POOL_2D nor a RELU of its own in INT8; each one cuts the
network in two, with a reference kernel between.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from calibration.graph.flat import FlatGraph

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
_FUSING = (*_CONVOLUTIONS, "ADD", "MUL")
_RELUS = {
    "RELU": schema.ActivationFunctionType.RELU,
    "RELU6": schema.ActivationFunctionType.RELU6,
}
_ELEMENTWISE = (*_RELUS, "LOGISTIC", "HARD_SWISH", "TANH")
_NONE = schema.ActivationFunctionType.NONE


def tidy_tflite(data: bytes) -> bytes:
    """Return the float .tflite `data` with fewer operators; it computes the same."""
    graph = FlatGraph(data)
    for step in (_fold_padding, _pool_by_mean, _drop_reshapes, _fuse_relus, _relu_by_product):
        for operator in graph.operators:
            step(graph, operator)
    return graph.pack()


def _fold_padding(graph: FlatGraph, operator: Any) -> None:
    """Let a convolution do the padding before it, where that is TensorFlow's SAME padding."""
    if graph.kind(operator) != "PAD" or (conv := graph.reader(operator.outputs[0])) is None:
        return
    if graph.kind(conv) not in _CONVOLUTIONS or conv.builtinOptions.padding != schema.Padding.VALID:
        return
    options, kernel = conv.builtinOptions, graph.shape(conv.inputs[1])[1:3]
    strides = options.strideH, options.strideW
    dilations = options.dilationHFactor, options.dilationWFactor
    sizes = graph.shape(operator.inputs[0])[1:3]
    same = [(0, 0), *map(_same_padding, sizes, kernel, strides, dilations), (0, 0)]
    if graph.integers(operator.inputs[1]).tolist() == [list(pads) for pads in same]:
        options.padding = schema.Padding.SAME
        graph.drop(operator)


def _same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return the padding before and after (tf.nn.convolution, padding="SAME")."""
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def _pool_by_mean(graph: FlatGraph, operator: Any) -> None:
    """Take the mean of a whole map as MEAN: its output has a scale of its own in INT8, too."""
    if graph.kind(operator) != "AVERAGE_POOL_2D":
        return
    old = operator.builtinOptions
    whole = graph.shape(operator.inputs[0])[1:3] == (old.filterHeight, old.filterWidth)
    if whole and old.padding == schema.Padding.VALID and old.fusedActivationFunction == _NONE:
        options = schema.ReducerOptionsT()
        options.keepDims = True
        graph.become(operator, "MEAN", options)
        axes = graph.add_constant(f"{graph.name(operator.outputs[0])}_axes", np.array([1, 2], np.int32))
        operator.inputs = np.array([operator.inputs[0], axes], np.int32)


def _drop_reshapes(graph: FlatGraph, operator: Any) -> None:
    """Take out a reshape and the one back, with nothing but an elementwise operator between."""
    if graph.kind(operator) != "RESHAPE" or (middle := graph.reader(operator.outputs[0])) is None:
        return
    if graph.kind(middle) not in _ELEMENTWISE or (back := graph.reader(middle.outputs[0])) is None:
        return
    shape = graph.shape(operator.inputs[0])
    if graph.kind(back) == "RESHAPE" and graph.shape(back.outputs[0]) == shape:
        graph.set_shape(middle.outputs[0], shape)
        graph.drop(operator)
        graph.drop(back)


def _fuse_relus(graph: FlatGraph, operator: Any) -> None:
    """Let the operator before it do a ReLU."""
    maker = graph.producer(operator.inputs[0])
    if maker is None or graph.kind(operator) not in _RELUS or graph.kind(maker) not in _FUSING:
        return
    if graph.reader(operator.inputs[0]) is not operator:
        return
    if maker.builtinOptions.fusedActivationFunction == _NONE:
        maker.builtinOptions.fusedActivationFunction = _RELUS[graph.kind(operator)]
        graph.fuse(maker, operator)


def _relu_by_product(graph: FlatGraph, operator: Any) -> None:
    """Write a ReLU that nothing takes in as a multiplication by 1 that ends in it."""
    if graph.kind(operator) not in _RELUS:
        return
    options = schema.MulOptionsT()
    options.fusedActivationFunction = _RELUS[graph.kind(operator)]
    graph.become(operator, "MUL", options)
    one = graph.add_constant(f"{graph.name(operator.outputs[0])}_one", np.ones(1, np.float32))
    operator.inputs = np.array([operator.inputs[0], one], np.int32)
