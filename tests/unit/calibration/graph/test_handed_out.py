"""Networks that also hand out a tensor from within, and others where a rewrite must keep its hands off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.graph import equalize, prepare
from tests.unit.calibration.graph.onnxmodels import Node, model, noise, run

if TYPE_CHECKING:
    import onnx

X = noise(1, 3, 8, 8, seed=9)
PAD = {"pads": [1, 1, 1, 1]}
CONSTANTS: dict[str, Any] = {
    "w": noise(3, 3, 3, 3, seed=1),
    "b": noise(3, seed=2),
    "two": np.float32(2),
    "deep": np.full((1, 1, 1, 1, 1), 2, np.float32),
    "rows": np.array([1, 3, 64]),
    "zero": np.float32(0),
    "six": np.float32(6),
}
FIRST: Node = ("Conv", ["x", "w", "b"], "a", PAD)


def last(tensor: str) -> Node:
    """Return a convolution of `tensor` that makes the output."""
    return ("Conv", [tensor, "w"], "y", PAD)


def check_unchanged(before: onnx.ModelProto) -> None:
    """Check that what is prepared, and equalized then, computes what `before` does."""
    prepared = prepare(before).model
    for after in (prepared, equalize(prepared, [X])):
        for expected, seen in zip(run(before, X), run(after, X), strict=True):
            largest = float(np.abs(expected).max()) or 1.0
            assert seen == pytest.approx(expected, abs=1e-4 * largest)


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([FIRST, ("Mul", ["a", "two"], "m", {}), last("m")], ("a", "y")),
        ([FIRST, ("Add", ["a", "two"], "m", {}), last("m")], ("a", "y")),
        ([FIRST, ("Mul", ["a", "two"], "y", {})], ("a", "y")),
        ([FIRST, ("Identity", ["a"], "y", {})], ("a", "y")),
        ([("Concat", ["x", "x"], "a", {"axis": 1}), ("Relu", ["a"], "y", {})], ("a", "y")),
        (
            [
                FIRST,
                ("Reshape", ["a", "rows"], "r", {}),
                ("Concat", ["r", "r"], "j", {"axis": 2}),
                ("Transpose", ["j"], "y", {"perm": [0, 2, 1]}),
            ],
            ("r", "y"),
        ),
        ([FIRST, ("Mul", ["a", "deep"], "y", {})], ("y",)),
        (
            [
                ("Relu", ["w"], "v", {}),
                ("Conv", ["x", "v"], "a", PAD),
                ("Mul", ["a", "two"], "m", {}),
                last("m"),
            ],
            ("y",),
        ),
        (
            [("Relu", ["b"], "c", {}), ("Conv", ["x", "w", "c"], "a", PAD), ("Add", ["a", "two"], "y", {})],
            ("y",),
        ),
    ],
    ids=[
        "factor",
        "term",
        "factor at the end",
        "one tensor twice",
        "concatenation",
        "level",
        "five axes",
        "computed weights",
        "computed bias",
    ],
)
def test_the_outputs_stay(nodes: list[Node], outputs: tuple[str, ...]) -> None:
    """Each of these was once broken, some without a word."""
    check_unchanged(model(nodes, CONSTANTS, outputs=outputs))


_KINDS = ("Conv", "Relu", "HardSwish", "Mul", "Add", "Div", "Sum", "Product", "Clip", "Identity", "Pool")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_random_networks_with_any_outputs_stay(data: st.DataObject) -> None:
    """Of a few operators each, with any of their tensors handed out."""
    tensors, nodes = ["x"], []
    for number in range(data.draw(st.integers(2, 8))):
        kind, source = data.draw(st.sampled_from(_KINDS)), data.draw(st.sampled_from(tensors[-3:]))
        other = data.draw(st.sampled_from(tensors))
        more: dict[str, tuple[str, list[str], dict[str, object]]] = {
            "Conv": ("Conv", [source, "w", "b"], PAD),
            "Mul": ("Mul", [source, "two"], {}),
            "Add": ("Add", ["two", source], {}),
            "Div": ("Div", [source, "two"], {}),
            "Sum": ("Add", [source, other], {}),
            "Product": ("Mul", [source, other], {}),
            "Clip": ("Clip", [source, "zero", "six"], {}),
            "Pool": ("MaxPool", [source], {**PAD, "kernel_shape": [3, 3]}),
        }
        name, inputs, attributes = more.get(kind, (kind, [source], {}))
        nodes.append((name, inputs, f"t{number}", attributes))
        tensors.append(f"t{number}")
    extra = data.draw(st.sets(st.sampled_from(tensors[1:])))
    outputs = tuple(sorted(extra | {tensors[-1]}))
    check_unchanged(model(nodes, CONSTANTS, outputs=outputs))
