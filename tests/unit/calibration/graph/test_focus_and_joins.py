"""The stem and the heads of YOLOX: rewritten they compute the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from calibration.graph.focus import fold_focus
from calibration.graph.joins import join_channels_last

FAR = np.iinfo(np.int64).max


def model_of(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], size: tuple[int, ...]
) -> onnx.ModelProto:
    """Return a checked model from "x" of `size` to "y"."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def output_of(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def focus(
    order: list[tuple[int, int]],
    *,
    kernel: int = 3,
    pad: int = 1,
    step: int = 2,
    end: int = FAR,
) -> onnx.ModelProto:
    """Return slices in `order` (row, column), joined, and a convolution of 5 channels."""
    weights = np.random.default_rng(3).standard_normal((5, 12, kernel, kernel)).astype(np.float32)
    constants = {"w": weights, "step": np.array([step])}
    constants |= {f"c{n}": np.array([n]) for n in range(4)} | {"end": np.array([end])}
    nodes = []
    for row, column in order:
        nodes.append(helper.make_node("Slice", ["x", f"c{row}", "end", "c2", "step"], [f"r{row}{column}"]))
        nodes.append(
            helper.make_node(
                "Slice", [f"r{row}{column}", f"c{column}", "end", "c3", "step"], [f"p{row}{column}"]
            )
        )
    parts = [f"p{row}{column}" for row, column in order]
    nodes.append(helper.make_node("Concat", parts, ["joined"], axis=1))
    nodes.append(helper.make_node("Conv", ["joined", "w"], ["y"], pads=[pad] * 4))
    return model_of(nodes, constants, (1, 3, 16, 12))


X = np.random.default_rng(4).standard_normal((1, 3, 16, 12)).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(
    st.permutations([(0, 0), (0, 1), (1, 0), (1, 1)]),
    st.sampled_from([1, 3]),
    st.integers(0, 1),
)
def test_the_stem_is_one_convolution(order: list[tuple[int, int]], kernel: int, pad: int) -> None:
    """Whatever the order of the four pictures, kernel and padding, the output is the same."""
    before = focus(order, kernel=kernel, pad=pad)
    after = fold_focus(before)
    assert kinds(after) == ["Conv"]
    assert output_of(after, X) == pytest.approx(output_of(before, X), abs=1e-5)


@pytest.mark.parametrize(
    "other",
    [
        focus([(0, 0), (0, 1), (1, 0), (1, 1)], end=8),
        focus([(0, 0), (0, 1), (1, 0), (1, 1)], step=3),
    ],
)
def test_other_slices_stay(other: onnx.ModelProto) -> None:
    """Slices that end early, or take every third row, are no focus."""
    assert kinds(fold_focus(other)) == kinds(other)


def heads(*, axis: int = 2, perm: tuple[int, ...] = (0, 2, 1)) -> onnx.ModelProto:
    """Return two levels of 6 channels, flattened, joined and transposed."""
    constants = {"flat": np.array([1, 6, -1]), "w": np.ones((6, 3, 1, 1), np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["a", "flat"], ["fa"]),
        helper.make_node("Reshape", ["b", "flat"], ["fb"]),
        helper.make_node("Concat", ["fa", "fb"], ["joined"], axis=axis),
        helper.make_node("Transpose", ["joined"], ["y"], perm=perm),
    ]
    return model_of(nodes, constants, (1, 3, 16, 12))


@pytest.mark.parametrize("axis", [2, -1])
def test_heads_are_joined_channels_last(axis: int) -> None:
    """Each level is turned before it is joined; the output keeps its name, shape and values."""
    before = heads(axis=axis)
    after = join_channels_last(before)
    assert kinds(after)[-5:] == ["Transpose", "Reshape", "Transpose", "Reshape", "Concat"]
    assert np.array_equal(output_of(after, X), output_of(before, X))
    assert output_of(after, X).shape == (1, 16 * 12 + 8 * 6, 6)


def test_another_transpose_stays() -> None:
    """A transpose that does not bring the channels last is left as it is."""
    other = heads(perm=(2, 0, 1))
    assert kinds(join_channels_last(other)) == kinds(other)
