"""Equalizing: the same function, channels of one range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.graph.equalize import equalize
from calibration.graph.layout import drop_idle_reshapes
from tests.unit.calibration.graph.onnxmodels import model, noise, run

PAD = {"pads": [1, 1, 1, 1]}


def network(spread: float, seed: int) -> object:
    """Return a network of all that passes factors on; the first convolution's channels differ by `spread`."""
    uneven = np.geomspace(1, spread, 6, dtype=np.float32).reshape(-1, 1, 1, 1)
    constants = {
        "w1": noise(6, 3, 3, 3, seed=seed) * uneven,
        "b1": noise(6, seed=seed + 1) * uneven.ravel(),
        "dw": noise(6, 1, 3, 3, seed=seed + 2),
        "w2": noise(6, 6, 1, 1, seed=seed + 3),
        "squeeze": noise(6, 6, 1, 1, seed=seed + 4),
        "w3": noise(2, 12, 1, 1, seed=seed + 5),
    }
    nodes = [
        ("Conv", ["x", "w1", "b1"], "a", PAD),
        ("Relu", ["a"], "r", {}),
        ("Conv", ["r", "dw"], "d", {**PAD, "group": 6}),
        ("Conv", ["d", "w2"], "p", {}),
        ("Add", ["p", "r"], "sum", {}),
        ("GlobalAveragePool", ["sum"], "mean", {}),
        ("Conv", ["mean", "squeeze"], "s", {}),
        ("Sigmoid", ["s"], "gate", {}),
        ("Mul", ["sum", "gate"], "gated", {}),
        ("Concat", ["gated", "d"], "joined", {"axis": 1}),
        ("Conv", ["joined", "w3"], "y", {}),
    ]
    return model(nodes, constants)


@settings(max_examples=15, deadline=None)
@given(st.floats(1.0, 500.0), st.integers(0, 1000))
def test_the_function_stays(spread: float, seed: int) -> None:
    """Through sums, gates, poolings, depthwise convolutions and concatenations the output is the same."""
    before = network(spread, seed)
    x = noise(1, 3, 8, 8, seed=seed)
    after = equalize(before, [x])
    want = run(before, x)[0]
    assert run(after, x)[0] == pytest.approx(want, rel=1e-3, abs=1e-4 * float(np.abs(want).max()))


def test_the_channels_reach_equally_far() -> None:
    """Channels that differed by a hundred use the whole range afterwards."""
    before = network(100.0, 5)
    x = noise(1, 3, 8, 8, seed=5)
    after = equalize(before, [x])
    after.graph.output.append(type(after.graph.output[0])(name="d"))
    reach = np.abs(run(after, x)[1]).max(axis=(0, 2, 3))
    assert reach == pytest.approx(1.0, abs=1e-3)


def test_what_a_sigmoid_reads_stays() -> None:
    """A network with nothing free is handed back."""
    before = model([("Sigmoid", ["x"], "s", {}), ("Sigmoid", ["s"], "y", {})], {})
    assert equalize(before, [noise(1, 3, 8, 8)]) is before


def test_shapes_of_what_is_gone_are_forgotten() -> None:
    """A tensor that another rewrite took out is not asked for."""
    before = model(
        [
            ("Conv", ["x", "w"], "a", PAD),
            ("Reshape", ["a", "same"], "gone", {}),
            ("Relu", ["gone"], "y", {}),
        ],
        {"w": noise(2, 3, 3, 3), "same": np.array([1, 2, 8, 8])},
    )
    x = noise(1, 3, 8, 8)
    after = equalize(drop_idle_reshapes(before), [x])
    assert run(after, x)[0] == pytest.approx(run(before, x)[0], abs=1e-5)
