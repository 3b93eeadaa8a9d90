"""Tidying a float .tflite, and biases that fit into INT32."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from agent.errors import BadData
from calibration.graph.biases import bounded_biases
from calibration.graph.flat import FlatGraph
from calibration.graph.tidy import tidy_tflite
from tests.unit.calibration.graph.flatmodels import flat, options, run
from tests.unit.calibration.graph.onnxmodels import noise

VALID = schema.Padding.VALID
X = noise(1, 8, 8, 3, seed=7)
HALF = options("Conv2D", padding=VALID, strideH=2, strideW=2)
ONE = options("Conv2D", padding=VALID, strideH=1, strideW=1)
WEIGHTS, BIAS = noise(4, 3, 3, 3, seed=1), noise(4, seed=2)


def kinds(content: bytes) -> list[str]:
    """Return the operators of `content`, in order."""
    graph = FlatGraph(content)
    return [graph.kind(operator) for operator in graph.operators]


def padded(before: int, after: int) -> bytes:
    """Return a padding of rows and columns and a convolution of stride 2."""
    pads = np.array([[0, 0], [before, after], [before, after], [0, 0]], np.int32)
    side = 8 + before + after
    out = (side - 3) // 2 + 1
    return flat(
        [
            ("PAD", ["x", pads], "p", (1, side, side, 3), options("Pad")),
            ("CONV_2D", ["p", WEIGHTS, BIAS], "y", (1, out, out, 4), HALF),
        ]
    )


@pytest.mark.parametrize(
    ("before", "after", "left"), [(0, 1, ["CONV_2D"]), (1, 1, ["PAD", "CONV_2D"]), (1, 0, ["PAD", "CONV_2D"])]
)
def test_padding_goes_into_the_convolution_where_it_is_same(before: int, after: int, left: list[str]) -> None:
    """Only the uneven padding of TensorFlow's SAME can be had without an operator."""
    content = padded(before, after)
    tidy = tidy_tflite(content)
    assert kinds(tidy) == left
    assert run(tidy, X)[0] == pytest.approx(run(content, X)[0], abs=1e-5)


def test_pooling_of_the_whole_map_becomes_a_mean() -> None:
    """The same numbers, by an operator with an output scale of its own."""
    whole = options("Pool2D", padding=VALID, strideH=8, strideW=8, filterHeight=8, filterWidth=8)
    content = flat([("AVERAGE_POOL_2D", ["x"], "y", (1, 1, 1, 3), whole)])
    tidy = tidy_tflite(content)
    assert kinds(tidy) == ["MEAN"]
    assert run(tidy, X)[0] == pytest.approx(run(content, X)[0], abs=1e-6)


def test_pooling_of_a_part_stays() -> None:
    """A window smaller than the map is no mean of it."""
    part = options("Pool2D", padding=VALID, strideH=2, strideW=2, filterHeight=2, filterWidth=2)
    content = flat([("AVERAGE_POOL_2D", ["x"], "y", (1, 4, 4, 3), part)])
    assert kinds(tidy_tflite(content)) == ["AVERAGE_POOL_2D"]


def test_reshapes_around_an_activation_go_and_it_is_fused() -> None:
    """There and back again, with a ReLU6 between: the convolution does it all."""
    to, back = np.array([1, 4, 6, 6], np.int32), np.array([1, 6, 6, 4], np.int32)
    content = flat(
        [
            ("CONV_2D", ["x", WEIGHTS, BIAS], "c", (1, 6, 6, 4), ONE),
            ("RESHAPE", ["c", to], "t", (1, 4, 6, 6), options("Reshape")),
            ("RELU6", ["t"], "r", (1, 4, 6, 6), None),
            ("RESHAPE", ["r", back], "y", (1, 6, 6, 4), options("Reshape")),
        ]
    )
    tidy = tidy_tflite(content)
    assert kinds(tidy) == ["CONV_2D"]
    assert run(tidy, X)[0] == pytest.approx(run(content, X)[0], abs=1e-5)


def test_a_relu_alone_becomes_a_product() -> None:
    """A ReLU of the input itself has nothing to be fused with."""
    content = flat([("RELU", ["x"], "y", (1, 8, 8, 3), None)])
    tidy = tidy_tflite(content)
    assert kinds(tidy) == ["MUL"]
    assert np.array_equal(run(tidy, X)[0], np.maximum(X, 0))


def test_a_relu_of_a_tensor_with_two_readers_is_not_fused() -> None:
    """The other reader needs the values below zero."""
    content = flat(
        [
            ("CONV_2D", ["x", WEIGHTS, BIAS], "c", (1, 6, 6, 4), ONE),
            ("RELU", ["c"], "r", (1, 6, 6, 4), None),
            ("ADD", ["c", "r"], "y", (1, 6, 6, 4), options("Add")),
        ]
    )
    tidy = tidy_tflite(content)
    assert kinds(tidy) == ["CONV_2D", "MUL", "ADD"]
    assert run(tidy, X)[0] == pytest.approx(run(content, X)[0], abs=1e-5)


def test_tidying_is_repeatable() -> None:
    """The same bytes each time, and nothing more to do the second time."""
    once = tidy_tflite(padded(0, 1))
    assert once == tidy_tflite(padded(0, 1))
    assert kinds(tidy_tflite(once)) == kinds(once)


def test_what_is_no_tflite_is_refused() -> None:
    """An ONNX given by mistake."""
    with pytest.raises(BadData, match=r"not a \.tflite"):
        tidy_tflite(b"\x08\x07\x12\x00onnx")


@pytest.mark.parametrize("rest", [b"", b"\xff" * 40, b"\x08\x00\x00\x00" * 10])
def test_what_is_damaged_is_refused(rest: bytes) -> None:
    """It begins like a .tflite and goes on as something else."""
    with pytest.raises(BadData, match="damaged"):
        tidy_tflite(b"\x1c\x00\x00\x00TFL3" + rest)


@pytest.mark.parametrize("depthwise", [False, True])
def test_a_bias_that_would_overflow_gets_a_coarser_scale(depthwise: bool) -> None:
    """Channels with next to no weights: the least that keeps bias / (input step x weight step) in INT32."""
    kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    more = (
        options("DepthwiseConv2D", padding=VALID, strideH=1, strideW=1, depthMultiplier=1)
        if depthwise
        else ONE
    )
    channels = 3 if depthwise else 4
    weights = noise(1, 3, 3, 3, seed=3) if depthwise else WEIGHTS.copy()
    weights[(..., 1) if depthwise else 1] = 0.0
    bias = np.full(channels, 5.0, np.float32)
    content = flat([(kind, ["x", weights, bias], "y", (1, 6, 6, channels), more)])
    repaired = bounded_biases(content, {"x": (-1.0, 1.0)})
    graph = FlatGraph(repaired)
    new = graph.floats(graph.operators[0].inputs[1])
    widest = np.abs(np.moveaxis(new, -1 if depthwise else 0, 0)).reshape(channels, -1).max(axis=1)
    assert (bias / (2.0 / 255 * widest / 127) < 2**31).all()
    assert run(repaired, np.clip(X, -1, 1))[0] == pytest.approx(run(content, np.clip(X, -1, 1))[0], abs=1e-3)


def test_biases_that_fit_stay() -> None:
    """Ordinary weights are not touched, nor those of a tensor without a range."""
    content = flat([("CONV_2D", ["x", WEIGHTS, BIAS], "y", (1, 6, 6, 4), ONE)])
    for ranges in ({"x": (-1.0, 1.0)}, {}):
        graph = FlatGraph(bounded_biases(content, ranges))
        assert np.array_equal(graph.floats(graph.operators[0].inputs[1]), WEIGHTS)
