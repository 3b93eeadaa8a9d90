"""Layouts and sizes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from agent.errors import BadData
from calibration.graph import equalize, prepare
from calibration.graph.layout import (
    channels_first_input,
    drop_idle_reshapes,
    relu_before_concat,
    sized_pooling,
)
from tests.unit.calibration.graph.onnxmodels import kinds, model, noise, run

W = {"w": noise(4, 3, 3, 3, seed=1)}
STRIDE = {"strides": [2, 2], "pads": [0, 0, 1, 1]}
NHWC = [("Transpose", ["x"], "t", {"perm": [0, 3, 1, 2]}), ("Conv", ["t", "w"], "y", STRIDE)]


def test_a_channels_last_input_becomes_channels_first() -> None:
    """The first transpose is gone, and the network takes the picture as it came out of it."""
    before = model(NHWC, W, size=(1, 8, 6, 3))
    after = channels_first_input(before)
    x = noise(1, 8, 6, 3)
    assert kinds(after) == ["Conv"]
    assert np.array_equal(run(after, x.transpose(0, 3, 1, 2))[0], run(before, x)[0])


def test_a_channels_first_input_stays() -> None:
    """A network that takes channels first is left alone."""
    before = model([("Conv", ["x", "w"], "y", STRIDE)], W)
    assert channels_first_input(before) is before


def test_what_comes_before_the_transpose_is_kept() -> None:
    """A picture scaled channels last, and transposed then: the network takes channels first all the same."""
    nodes = [
        ("Mul", ["x", "scale"], "s", {}),
        ("Transpose", ["s"], "t", {"perm": [0, 3, 1, 2]}),
        ("Conv", ["t", "w"], "y", STRIDE),
    ]
    before = model(nodes, {**W, "scale": np.array([1, 2, 3], np.float32)}, size=(1, 8, 6, 3))
    x = noise(1, 8, 6, 3)
    turned = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    prepared = prepare(before).model
    for after in (prepared, equalize(prepared, [turned])):
        assert run(after, turned)[0] == pytest.approx(run(before, x)[0], abs=1e-5)


@pytest.mark.parametrize("ir_version", [3, 8])
def test_weights_may_be_listed_before_the_picture(ir_version: int) -> None:
    """As old exporters do: the size that is fixed is the picture's."""
    before = model([("Conv", ["x", "w"], "y", STRIDE)], W, size=(1, 3, "h", "w_"))
    before.ir_version = ir_version
    before.graph.input.insert(0, helper.make_tensor_value_info("w", TensorProto.FLOAT, (4, 3, 3, 3)))
    after = prepare(before, width=8, height=8).model
    assert [value.name for value in after.graph.input] == ["x"]
    x = noise(1, 3, 8, 8)
    assert run(after, x)[0] == pytest.approx(run(before, x)[0], abs=1e-5)


def test_idle_reshapes_go_and_others_stay() -> None:
    """A reshape to the very shape is taken out, one to another shape is not."""
    nodes = [
        ("Relu", ["x"], "r", {}),
        ("Reshape", ["r", "same"], "idle", {}),
        ("Reshape", ["idle", "flat"], "y", {}),
    ]
    before = model(nodes, {"same": np.array([1, 3, 8, 8]), "flat": np.array([1, -1])})
    assert kinds(drop_idle_reshapes(before)) == ["Relu", "Reshape"]


def test_an_idle_reshape_at_the_end_leaves_the_name_of_the_output() -> None:
    """Who asks for "y" gets it."""
    nodes = [("Relu", ["x"], "r", {}), ("Reshape", ["r", "same"], "y", {})]
    after = drop_idle_reshapes(model(nodes, {"same": np.array([1, 3, 8, 8])}))
    assert [o.name for o in after.graph.output] == ["y"]
    assert np.array_equal(run(after, noise(1, 3, 8, 8))[0], np.maximum(noise(1, 3, 8, 8), 0))


def test_global_pooling_gets_its_size() -> None:
    """The same means by a pooling of the size of the map."""
    before = model([("GlobalAveragePool", ["x"], "y", {})], {})
    after = sized_pooling(before)
    assert kinds(after) == ["AveragePool"]
    assert run(after, noise(1, 3, 8, 8))[0] == pytest.approx(run(before, noise(1, 3, 8, 8))[0], abs=1e-6)


def test_a_relu_moves_before_a_concatenation() -> None:
    """Each part gets a ReLU of its own."""
    nodes = [
        ("Conv", ["x", "w"], "a", {"pads": [1, 1, 1, 1]}),
        ("Concat", ["a", "x"], "joined", {"axis": 1}),
        ("Relu", ["joined"], "y", {}),
    ]
    before = model(nodes, W)
    after = relu_before_concat(before)
    assert kinds(after) == ["Concat", "Conv", "Relu", "Relu"]
    assert after.graph.node[-1].op_type == "Concat"
    assert np.array_equal(run(after, noise(1, 3, 8, 8))[0], run(before, noise(1, 3, 8, 8))[0])


def test_the_size_is_changed() -> None:
    """A fully convolutional network at another size: inputs and outputs say so."""
    prepared = prepare(model(NHWC, W, size=(1, 8, 6, 3)), width=16, height=24)
    assert run(prepared.model, noise(1, 3, 24, 16))[0].shape == (1, 4, 12, 8)
    assert prepared.notes[0] == "input size fixed"


def test_a_free_size_is_fixed() -> None:
    """A dynamic axis takes the size that is given."""
    prepared = prepare(
        model([("Conv", ["x", "w"], "y", STRIDE)], W, size=("n", 3, "h", "w_")), width=8, height=8
    )
    shape = prepared.model.graph.input[0].type.tensor_type.shape
    assert [d.dim_value for d in shape.dim] == [1, 3, 8, 8]


def test_a_free_size_needs_one() -> None:
    """Nobody can guess it."""
    with pytest.raises(BadData, match=r"height of the model's input.*free"):
        prepare(model([("Conv", ["x", "w"], "y", STRIDE)], W, size=(1, 3, "h", "w_")))


def test_a_shape_of_another_size_is_refused() -> None:
    """A constant shape inside that was made for one size only."""
    fixed = model([("Reshape", ["x", "shape"], "y", {})], {"shape": np.array([1, 192])})
    with pytest.raises(BadData, match="16x16"):
        prepare(fixed, width=16, height=16)


def test_what_is_no_picture_is_refused() -> None:
    """A network of vectors has no width and height."""
    with pytest.raises(BadData, match="model input"):
        prepare(model([("Relu", ["x"], "y", {})], {}, size=(1, 10)))
