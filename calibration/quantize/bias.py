"""Bias correction: what INT8 moves the mean of each channel of a convolution, to be taken back by its bias.

Nagel et al. 2019, arXiv:1906.04721, section 4.2, with means measured on pictures; rounding of the input counts too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from calibration.graph import OUTPUT_AXIS, FlatGraph
from calibration.quantize.calibrate import open_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

_LOWEST, _HIGHEST = -128, 127


class _Layer(NamedTuple):
    """A convolution in INT8: the tensor it reads, how that is held, and its weights, real and held, by tap."""

    source: int
    step: float
    zero_point: int
    weights: NDArray[np.float64]
    held: NDArray[np.float64]
    depthwise: bool

    def output(self, weights: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean of each output channel, for an input whose channels have `means`; borders are left out."""
        if self.depthwise:
            channels: NDArray[np.float64] = weights.reshape(-1, weights.shape[-1]).sum(axis=0) * means
            return channels
        summed: NDArray[np.float64] = weights.reshape(len(weights), -1, weights.shape[-1]).sum(axis=1) @ means
        return summed


def bias_moves(
    float_tflite: Path, int8_tflite: Path, probes: Sequence[NDArray[np.float32]]
) -> dict[str, NDArray[np.float64]]:
    """Return what to add to the biases of `int8_tflite`, made of `float_tflite`, for the inputs `probes`.

    By channel, in real numbers, by the name of the operator's output. Raises BadData.
    """
    layers = _layers(FlatGraph(float_tflite.read_bytes()), FlatGraph(int8_tflite.read_bytes()))
    ways = sorted({layer[:3] for layer in layers.values()})
    true, held = ({way: np.zeros(1) for way in ways} for _ in range(2))
    interpreter = open_whole(float_tflite, threads=1)
    feed = interpreter.get_input_details()[0]["index"]
    for probe in probes:
        interpreter.set_tensor(feed, probe)
        interpreter.invoke()
        for way in ways:
            source, step, zero_point = way
            values = interpreter.get_tensor(source)
            values = values.reshape(-1, values.shape[-1])
            kept = np.clip(np.rint(values / np.float32(step)), _LOWEST - zero_point, _HIGHEST - zero_point)
            true[way] = true[way] + values.mean(axis=0, dtype=np.float64) / len(probes)
            held[way] = held[way] + step * kept.mean(axis=0, dtype=np.float64) / len(probes)
    return {
        name: layer.output(layer.weights, true[layer[:3]]) - layer.output(layer.held, held[layer[:3]])
        for name, layer in layers.items()
    }


def _layers(real: FlatGraph, int8: FlatGraph) -> dict[str, _Layer]:
    """Return the layers of `int8` that are in INT8, by the name of their output."""
    makers = {real.name(int(operator.outputs[0])): operator for operator in real.operators}
    found = {}
    for operator in int8.operators:
        name, kind = int8.name(int(operator.outputs[0])), int8.kind(operator)
        if (
            kind in OUTPUT_AXIS
            and name in makers
            and (layer := _layer(real, makers[name], int8, operator, kind))
        ):
            found[name] = layer
    return found


def _layer(real: FlatGraph, maker: Any, int8: FlatGraph, operator: Any, kind: str) -> _Layer | None:
    if len(operator.inputs) < 3 or operator.inputs[2] < 0:
        return None
    weights, held = real.floats(int(maker.inputs[1])), int8.integers_held(int(operator.inputs[1]))
    if weights is None or held is None or int8.integers_held(int(operator.inputs[2])) is None:
        return None
    numbers, steps = held
    source, (step, zero_point) = int(maker.inputs[0]), int8.step_of(int(operator.inputs[0]))
    depthwise = kind == "DEPTHWISE_CONV_2D"
    return _Layer(source, step, zero_point, weights.astype(np.float64), numbers * steps, depthwise)
