"""From histograms to the range each tensor gets in INT8. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from calibration.quantize.network import Network, Operator
    from calibration.quantize.statistics import Histogram, Statistics

    Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]

Method = Literal["usual", "minmax", "percentile", "tight", "tighter", "effect", "mse"]
Range = tuple[float, float]
_STEPS = 255
_TAILS: dict[Method, float] = {"percentile": 1e-5, "tight": 1e-4, "tighter": 1e-3}
"""Share of the values that is cut off on each side."""
_CANDIDATES = 96


@dataclass(frozen=True, slots=True)
class Effect:
    """What the network makes of a tensor before anything else sees it: `value` of x, and its `slope`."""

    value: Curve
    slope: Curve


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


IDENTITY = Effect(lambda x: x, np.ones_like)
SIGMOID = Effect(_sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x))
SILU = Effect(lambda x: x * _sigmoid(x), lambda x: _sigmoid(x) * (1.0 + x * _sigmoid(-x)))
HARD_SWISH = Effect(
    lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0,
    lambda x: np.where(x <= -3.0, 0.0, np.where(x >= 3.0, 1.0, x / 3.0 + 0.5)),
)
RELU = Effect(lambda x: np.maximum(x, 0.0), lambda x: (x > 0).astype(np.float64))
_SINGLE = {"LOGISTIC": SIGMOID, "HARD_SWISH": HARD_SWISH, "RELU": RELU}


def effect_of(network: Network, tensor: int) -> Effect:
    """Return what the operators that read `tensor` make of it; IDENTITY unless they all are one activation."""
    readers = [network.operators[n] for n in network.consumers.get(tensor, ())]
    if tensor in network.outputs or not readers:
        return IDENTITY
    kinds = sorted(reader.kind for reader in readers)
    if len(readers) == 1:
        return _SINGLE.get(kinds[0], IDENTITY)
    if kinds in (["LOGISTIC", "MUL"], ["ADD", "MUL"]):
        gate, product = sorted(readers, key=lambda one: one.kind)
        if set(product.inputs) == {tensor, *gate.outputs}:
            return SILU if gate.kind == "LOGISTIC" else _hard_swish(network, tensor, gate)
    return IDENTITY


def _hard_swish(network: Network, tensor: int, gate: Operator) -> Effect:
    """Return HARD_SWISH if `gate` is relu6(tensor + 3), as converters spell it out; the sixth of it is no matter."""
    added = [network.tensors[n].value for n in gate.inputs if n != tensor]
    return HARD_SWISH if added == [3.0] and gate.fused == "RELU6" else IDENTITY


def choose(
    network: Network, statistics: Statistics, method: Method, *, input_range: Range | None = None
) -> dict[str, Range]:
    """Return the range of every activation of `network`.

    "usual": the average extremes of a picture, of inputs too. "minmax": the extremes. "percentile", "tight",
    "tighter": without the outermost values, more and more of them. "effect": where an activation function follows,
    the range with the least squared error behind it (SiLU makes nothing of what is far below zero), elsewhere as
    "percentile". "mse": the least squared error everywhere. Inputs get `input_range`, what a picture can hold at
    all, else their extremes.
    """
    found: Mapping[str, Histogram] = statistics.tensors
    ranges = {}
    for number in network.activations:
        name = network.tensors[number].name
        effect = effect_of(network, number)
        if method == "usual":
            ranges[name] = _with_zero(*found[name].usual)
        elif number in network.inputs and input_range is not None:
            ranges[name] = _with_zero(*input_range)
        elif number in network.inputs or method == "minmax":
            ranges[name] = _with_zero(found[name].low, found[name].high)
        elif method in _TAILS:
            ranges[name] = percentile(found[name], _TAILS[method])
        elif method == "effect" and effect is IDENTITY:
            ranges[name] = percentile(found[name], _TAILS["percentile"])
        else:
            ranges[name] = least_error(found[name], effect)
    return ranges


def percentile(histogram: Histogram, tail: float) -> Range:
    """Return the range that leaves out the share `tail` of the values on each side."""
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    low, high = np.searchsorted(share, [tail, 1.0 - tail])
    edges = (np.array([low, high + 1]) + histogram.first) * histogram.width
    return _with_zero(max(float(edges[0]), histogram.low), min(float(edges[1]), histogram.high))


def least_error(histogram: Histogram, effect: Effect) -> Range:
    """Return the range with the least expected squared error of `effect`.

    A value within the range is off by a twelfth of the step squared (Bennett 1948), times the slope there squared;
    one outside is taken for the nearest bound.
    """
    low, high = _with_zero(histogram.low, histogram.high)
    lows, highs = _bounds(low), _bounds(high)
    x, weight = histogram.centres, histogram.counts / histogram.counts.sum()
    value = effect.value(x)
    rounding = weight * effect.slope(x) ** 2 / 12.0
    below = np.array(
        [weight @ np.where(x < b, (effect.value(np.array([b])) - value) ** 2, 0.0) for b in lows]
    )
    above = np.array(
        [weight @ np.where(x > b, (effect.value(np.array([b])) - value) ** 2, 0.0) for b in highs]
    )
    under = np.array([rounding[x < b].sum() for b in lows])
    over = np.array([rounding[x > b].sum() for b in highs])
    step = (highs[None, :] - lows[:, None]) / _STEPS
    inside = np.maximum(rounding.sum() - under[:, None] - over[None, :], 0.0)
    error = below[:, None] + above[None, :] + inside * step**2
    row, column = np.unravel_index(int(error.argmin()), error.shape)
    return float(lows[row]), float(highs[column])


def _bounds(extreme: float) -> NDArray[np.float64]:
    """Return what a bound could be: from `extreme` down to a hundredth of it, the outermost first."""
    return extreme * np.geomspace(1.0, 0.01, _CANDIDATES)


def _with_zero(low: float, high: float) -> Range:
    """Return the two with zero between them, as INT8 wants it."""
    low, high = min(low, 0.0), max(high, 0.0)
    return (low, high) if high > low else (low, low + 1e-6)
