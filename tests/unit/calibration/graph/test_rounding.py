"""One tensor held in INT8, the rest of the network in float."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.graph import Rounding
from tests.unit.calibration.graph.flatmodels import flat, options, run
from tests.unit.calibration.graph.onnxmodels import noise

X = noise(1, 8, 8, 3, seed=7)
SHAPE = (1, 8, 8, 3)
TWICE = flat(
    [
        ("RELU", ["x"], "a", SHAPE, None),
        ("ADD", ["a", "a"], "sum", SHAPE, options("Add")),
        ("MUL", ["a", "sum"], "y", SHAPE, options("Mul")),
    ],
    outputs=("a", "y"),
)
"""Tensor 1, "a", is read by two operators, by one of them twice, and handed out."""


def held(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return `values` as INT8 of the range `low` to `high` holds them."""
    step = (high - low) / 255
    zero_point = np.clip(np.rint(-128 - low / step), -128, 127)
    return np.asarray((np.clip(np.rint(values / step) + zero_point, -128, 127) - zero_point) * step)


@settings(max_examples=25, deadline=None)
@given(st.floats(-2, 0), st.floats(0.1, 4))
def test_readers_get_what_int8_holds(low: float, high: float) -> None:
    """Every reader sees the rounded and clipped values, the graph's own output the true ones."""
    kept, product = run(Rounding(TWICE, 1).at(low, high), X)
    a = np.maximum(X, 0)
    assert np.array_equal(kept, a)
    step = (high - low) / 255
    seen, wanted = product, 2 * held(a, low, high) ** 2
    assert np.abs(seen - wanted).max() <= 4 * high * step  # halves may be rounded either way


def test_the_input_can_be_rounded() -> None:
    """An input that INT8 holds with a coarse step loses what lies outside."""
    _, product = run(Rounding(TWICE, 0).at(0.0, 0.5), X)
    assert product.max() <= 2 * 0.5**2 + 1e-6
