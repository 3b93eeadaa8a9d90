"""Biases: kept within INT32, and moved by what INT8 moves the mean of a channel; the quantizer sees to neither.

A quantized bias has the scale of its input times that of its channel's weights. With weights near zero that
scale is so fine that the bias overflows, silently; squeeze-excite blocks are full of such channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from calibration.graph.flat import FlatGraph

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_ROOM = 2.0**30
_MOST = 2.0**31 - 2.0**16
_STEPS = 127
_LEVELS = 255
_LEAST_STEP = 1e-12
OUTPUT_AXIS = {"CONV_2D": 0, "FULLY_CONNECTED": 0, "DEPTHWISE_CONV_2D": -1}
"""Operators with a bias, and the axis of their weights that counts output channels."""


def bounded_biases(data: bytes, ranges: Mapping[str, tuple[float, float]]) -> bytes:
    """Return the float .tflite `data` such that no bias overflows when tensors have `ranges` (low, high) in INT8.

    One weight of each channel that would is raised to where the bias just fits; that moves the output by less
    than 1/32000 of the bias.
    """
    graph = FlatGraph(data)
    for operator in graph.operators:
        kind = graph.kind(operator)
        if kind not in OUTPUT_AXIS or len(operator.inputs) < 3:
            continue
        source, weights, bias = (int(tensor) for tensor in operator.inputs[:3])
        if bias < 0 or graph.name(source) not in ranges:
            continue
        values, biases = graph.floats(weights), graph.floats(bias)
        if values is None or biases is None:
            continue
        low, high = ranges[graph.name(source)]
        step = max((max(high, 0.0) - min(low, 0.0)) / _LEVELS, _LEAST_STEP)
        raised = _raised(np.moveaxis(values, OUTPUT_AXIS[kind], 0), np.abs(biases) * _STEPS / (step * _ROOM))
        if raised is not None:
            graph.set_floats(operator, 1, np.ascontiguousarray(np.moveaxis(raised, 0, OUTPUT_AXIS[kind])))
    return graph.pack()


def moved_biases(data: bytes, moves: Mapping[str, NDArray[np.float64]]) -> bytes:
    """Return the INT8 .tflite `data` with `moves`, real values by channel, added to the biases of its operators.

    `moves` are by the name of the operator's output; operators left in float stay as they are.
    """
    graph = FlatGraph(data)
    for operator in graph.operators:
        move = moves.get(graph.name(int(operator.outputs[0])))
        if move is None or graph.kind(operator) not in OUTPUT_AXIS:
            continue
        held = graph.integers_held(int(operator.inputs[2]))
        if held is not None:
            values, steps = held
            moved = np.clip(np.rint(values + move / steps), -_MOST, _MOST)
            graph.set_integers_held(int(operator.inputs[2]), moved.astype(np.int32))
    return graph.pack()


def _raised(weights: NDArray[np.float32], least: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """Return `weights`, channel by channel, where each reaches `least` somewhere; None if they all do."""
    channels = weights.reshape(len(weights), -1)
    short = np.abs(channels).max(axis=1) < least
    if not short.any():
        return None
    channels = channels.copy()
    channels[short, 0] = least[short]
    raised: NDArray[np.float32] = channels.reshape(weights.shape)
    return raised
