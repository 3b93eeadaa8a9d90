"""Constants go into convolutions, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.graph.activations import spell_out_activations
from calibration.graph.constants import fold_constants
from tests.unit.calibration.graph.onnxmodels import kinds, model, noise, run

X = noise(1, 3, 8, 8, seed=9) * 4
WEIGHTS = {
    "w1": noise(6, 3, 3, 3, seed=1),
    "b1": noise(6, seed=2),
    "w2": noise(4, 6, 1, 1, seed=3),
    "w3": noise(6, 6, 1, 1, seed=4),
    "b3": noise(6, seed=5),
    "three": np.float32(3),
    "zero": np.float32(0),
    "six": np.float32(6),
}
PAD = {"pads": [1, 1, 1, 1]}
HARD_SWISH_BY_HAND = [
    ("Conv", ["x", "w1", "b1"], "a", PAD),
    ("Mul", ["sixth", "a"], "small", {}),
    ("Add", ["a", "three"], "shifted", {}),
    ("Clip", ["shifted", "zero", "six"], "gate", {}),
    ("Mul", ["small", "gate"], "swish", {}),
]


@settings(max_examples=25, deadline=None)
@given(st.floats(0.0625, 50.0, width=32))
def test_the_factor_of_a_hard_swish_goes_into_the_next_convolution(factor: float) -> None:
    """Whatever the factor, FP16's idea of a sixth too: one operator less, the same output."""
    before = model(
        [*HARD_SWISH_BY_HAND, ("Conv", ["swish", "w2"], "y", {})], {**WEIGHTS, "sixth": np.float32(factor)}
    )
    after = fold_constants(before)
    assert kinds(after) == ["Add", "Clip", "Conv", "Conv", "Mul"]
    assert run(after, X)[0] == pytest.approx(run(before, X)[0], rel=1e-4, abs=1e-3)


def test_a_sum_takes_the_factor_to_its_other_side() -> None:
    """Where the product is added to a convolution's output, that convolution is scaled against it."""
    before = model(
        [
            *HARD_SWISH_BY_HAND,
            ("Conv", ["swish", "w3", "b3"], "project", {}),
            ("Add", ["project", "swish"], "sum", {}),
            ("Conv", ["sum", "w2"], "y", {}),
        ],
        {**WEIGHTS, "sixth": np.float32(1 / 6)},
    )
    after = fold_constants(before)
    assert kinds(after).count("Mul") == 1
    assert run(after, X)[0] == pytest.approx(run(before, X)[0], abs=1e-4)


def test_a_gate_loses_its_constants() -> None:
    """A squeeze-excite gate: +3 goes into the bias before it, the sixth into the convolution behind."""
    before = model(
        [
            ("Conv", ["x", "w1", "b1"], "map", PAD),
            ("GlobalAveragePool", ["map"], "mean", {}),
            ("Conv", ["mean", "w3", "b3"], "excite", {}),
            ("HardSigmoid", ["excite"], "gate", {"alpha": 1 / 6, "beta": 0.5}),
            ("Mul", ["map", "gate"], "gated", {}),
            ("Conv", ["gated", "w2"], "y", {}),
        ],
        WEIGHTS,
    )
    after = fold_constants(spell_out_activations(before))
    assert kinds(after) == ["Clip", "Conv", "Conv", "Conv", "GlobalAveragePool", "Mul"]
    assert run(after, X)[0] == pytest.approx(run(before, X)[0], abs=1e-4)


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        ([("Mul", ["x", "three"], "y", {})], ["Mul"]),
        ([("Sigmoid", ["x"], "s", {}), ("Mul", ["s", "three"], "y", {})], ["Mul", "Sigmoid"]),
        ([("Relu", ["x"], "r", {}), ("Add", ["r", "three"], "y", {})], ["Add", "Relu"]),
        (
            [("Mul", ["x", "three"], "m", {}), ("Sigmoid", ["m"], "s", {}), ("Conv", ["s", "v"], "y", {})],
            ["Conv", "Mul", "Sigmoid"],
        ),
    ],
)
def test_what_has_nowhere_to_go_stays(nodes: list, left: list[str]) -> None:
    """A factor of an output, or before a sigmoid, or a term behind a ReLU is kept."""
    before = model(nodes, {"three": np.float32(3), "v": noise(2, 3, 1, 1)})
    after = fold_constants(before)
    assert kinds(after) == left
    assert np.array_equal(run(after, X)[0], run(before, X)[0])


def test_shared_weights_are_scaled_for_one_reader_alone() -> None:
    """Two convolutions with the same weights, one behind a factor: the other is as it was."""
    before = model(
        [
            ("Relu", ["x"], "r", {}),
            ("Mul", ["r", "three"], "m", {}),
            ("Conv", ["m", "w1"], "a", PAD),
            ("Conv", ["r", "w1"], "b", PAD),
            ("Add", ["a", "b"], "y", {}),
        ],
        {"w1": WEIGHTS["w1"], "three": np.float32(3)},
    )
    after = fold_constants(before)
    assert "Mul" not in kinds(after)
    assert run(after, X)[0] == pytest.approx(run(before, X)[0], abs=1e-4)


@pytest.mark.parametrize("kind", ["HardSwish", "HardSigmoid"])
def test_hard_activations_are_spelled_out(kind: str) -> None:
    """HardSwish and MobileNet's HardSigmoid become Add, Clip and Mul with the same values."""
    more = {"alpha": 1 / 6, "beta": 0.5} if kind == "HardSigmoid" else {}
    before = model([(kind, ["x"], "y", more)], {})
    after = spell_out_activations(before)
    assert kinds(after) == (["Add", "Clip", "Mul", "Mul"] if kind == "HardSwish" else ["Add", "Clip", "Mul"])
    assert run(after, X)[0] == pytest.approx(run(before, X)[0], abs=1e-6)


def test_another_hard_sigmoid_stays() -> None:
    """ONNX's default slope of 0.2 is not that of MobileNet."""
    assert kinds(spell_out_activations(model([("HardSigmoid", ["x"], "y", {})], {}))) == ["HardSigmoid"]
