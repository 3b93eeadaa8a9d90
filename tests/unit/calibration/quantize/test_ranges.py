"""Ranges from histograms: what is cut off, and what must not be."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from calibration.quantize.network import Tensor
from calibration.quantize.ranges import (
    HARD_SWISH,
    IDENTITY,
    SIGMOID,
    SILU,
    Effect,
    choose,
    effect_of,
    least_error,
    percentile,
)
from calibration.quantize.statistics import Statistics, histogram_of
from tests.unit.calibration.quantize import graphs
from tests.unit.calibration.quantize.graphs import network, normal, number_of

if TYPE_CHECKING:
    from calibration.quantize.network import Network


def error_of(values: np.ndarray, bounds: tuple[float, float], effect: Effect) -> float:
    """Return the mean squared error behind `effect` when `values` are really quantized to `bounds`."""
    low, high = bounds
    step = (high - low) / 255
    back = np.rint(np.clip(values, low, high) / step) * step
    return float(((effect.value(back) - effect.value(values.astype(np.float64))) ** 2).mean())


def test_silu_needs_nothing_far_below_zero() -> None:
    """SiLU of -30 is 0: the range ends where it starts to matter, and the error behind it falls tenfold."""
    values = np.concatenate([normal(1, 5000, 2.0), np.linspace(-130, 0, 500)]).astype(np.float32)
    low, high = least_error(histogram_of(values), SILU)
    assert -20 < low < -4
    assert high == pytest.approx(values.max(), rel=0.2)
    assert error_of(values, (low, high), SILU) < error_of(values, (-130.0, float(values.max())), SILU) / 10


def test_an_outlier_is_cut_off() -> None:
    """One value a hundred times as large as the others does not take their steps away."""
    values = np.append(normal(2, 1_000_000), np.float32(20.0))
    found = least_error(histogram_of(values), IDENTITY)
    assert error_of(values, found, IDENTITY) < error_of(values, (float(values.min()), 100.0), IDENTITY)


def test_evenly_spread_values_keep_their_extremes() -> None:
    """Where every value counts alike nothing is cut off."""
    low, high = least_error(histogram_of(np.linspace(-2, 6, 10_000).astype(np.float32)), IDENTITY)
    assert (low, high) == (pytest.approx(-2, abs=0.1), pytest.approx(6, abs=0.1))


def test_percentile_leaves_the_outermost_values_out() -> None:
    """A hundredth on each side of 0 to 1000 is left out; zero stays in."""
    low, high = percentile(histogram_of(np.arange(1001, dtype=np.float32)), 0.01)
    assert low == 0.0
    assert 985 <= high <= 992


@pytest.mark.parametrize("effect", [IDENTITY, SIGMOID, SILU, HARD_SWISH])
def test_the_slope_is_that_of_the_curve(effect: Effect) -> None:
    """Each effect's slope is the derivative of its value."""
    x = np.linspace(-5.05, 5.05, 102)
    numeric = (effect.value(x + 1e-6) - effect.value(x - 1e-6)) / 2e-6
    assert effect.slope(x) == pytest.approx(numeric, abs=1e-4)


def test_the_effect_is_read_from_the_graph() -> None:
    """A tensor behind which SiLU or a sigmoid stands is known; one that is read twice otherwise is not."""
    graph = graphs.SILU
    assert effect_of(graph, number_of(graph, "a")) is SILU
    assert effect_of(graph, number_of(graph, "logits")) is SIGMOID
    assert effect_of(graph, number_of(graph, "silu")) is IDENTITY
    other = network(("b", "MUL", ("a", "c"), 0), ("d", "LOGISTIC", ("a",), 0), outputs=("b", "d"))
    assert effect_of(other, number_of(other, "a")) is IDENTITY


def test_inputs_keep_their_extremes() -> None:
    """A picture's brightest pixel is no outlier, whatever the method of ours."""
    graph = graphs.SILU
    values = np.append(normal(3, 50_000), np.float32(255.0))
    statistics = Statistics(1, {tensor.name: histogram_of(values) for tensor in graph.tensors})
    for method in ("minmax", "percentile", "tight", "tighter", "effect", "mse"):
        assert choose(graph, statistics, method)["image"][1] == 255.0
    assert choose(graph, statistics, "mse")["silu"][1] < 255.0


def test_zero_is_always_within() -> None:
    """INT8 must be able to say 0: padding is made of it."""
    for values in (np.full(9, 5.0), np.full(9, -5.0), np.zeros(9)):
        histogram = histogram_of(values.astype(np.float32))
        for low, high in (least_error(histogram, IDENTITY), percentile(histogram, 0.01)):
            assert low <= 0.0 <= high
            assert low < high


def test_hard_swish_is_known_when_it_is_spelled_out() -> None:
    """Hard-swish is x * relu6(x + 3); with another number, or without the limit at 6, it is not."""

    def spelled(added: float, fused: str) -> Network:
        graph = network(("gate", "ADD", ("x", "three"), 0), ("y", "MUL", ("x", "gate"), 0), outputs=("y",))
        three = Tensor("three", (), real=True, constant=True, value=added)
        tensors = tuple(three if tensor.name == "three" else tensor for tensor in graph.tensors)
        gate = replace(graph.operators[0], fused=fused)
        return replace(graph, tensors=tensors, operators=(gate, graph.operators[1]))

    known = spelled(3.0, "RELU6")
    assert effect_of(known, number_of(known, "x")) is HARD_SWISH
    for other in (spelled(1.0, "RELU6"), spelled(3.0, "NONE")):
        assert effect_of(other, number_of(other, "x")) is IDENTITY


def test_the_range_of_the_input_can_be_given() -> None:
    """Clips without white do not narrow it."""
    graph = graphs.SILU
    dark = histogram_of(np.linspace(0, 40, 500).astype(np.float32))
    statistics = Statistics(1, {tensor.name: dark for tensor in graph.tensors})
    assert choose(graph, statistics, "mse", input_range=(0.0, 255.0))["image"] == (0.0, 255.0)
