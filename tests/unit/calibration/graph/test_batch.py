"""Networks opened for several pictures at once, and those that can't be."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.building.onnxforms import modern, ranges_of, to_fp16, to_qdq
from calibration.graph import open_batch
from calibration.graph.batch import is_open

SIZE = 16
PICTURES = np.random.default_rng(1).random((4, 3, SIZE, SIZE), np.float32)


def network(
    *, shape: list[int], operator: str = "Reshape", sizes: list[int] | None = None
) -> onnx.ModelProto:
    """Return a convolution, channels last, and then a reshape to `shape`, or another `operator`."""
    weights = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    constants = {"w": weights, "b": np.ones(4, np.float32), "shape": np.array(shape, np.int64)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Transpose", ["c"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node(operator, ["last", "shape"], ["y"], name="rows"),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, sizes or [1, 64, 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, pictures: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": pictures})[0]


@pytest.mark.parametrize("shape", [[1, -1, 4], [1, 64, 4], [0, -1, 4]])
@pytest.mark.parametrize("form", ["fp32", "fp16", "int8"])
def test_each_picture_of_a_batch_gets_what_it_gets_alone(shape: list[int], form: str) -> None:
    """In every form that a bundle has; inputs and outputs say that the number is open."""
    single = modern(network(shape=shape))
    opened = modern(open_batch(network(shape=shape)))
    if form == "int8":
        ranges = ranges_of(single, iter(PICTURES[:, None]))
        single, opened = to_qdq(single, ranges), to_qdq(opened, ranges)
    elif form == "fp16":
        single, opened = to_fp16(single), to_fp16(opened)
    assert is_open(opened)
    assert not is_open(single)
    alone = np.concatenate([run(single, picture[None]) for picture in PICTURES])
    for count in (1, 2, 4):
        np.testing.assert_allclose(run(opened, PICTURES[:count]), alone[:count], atol=2e-3)


def test_what_is_open_already_stays_as_it_is() -> None:
    """The same object comes back."""
    opened = open_batch(network(shape=[1, -1, 4]))
    assert open_batch(opened) is opened


@pytest.mark.parametrize(
    ("shape", "operator", "sizes"),
    [([-1, 4], "Reshape", [64, 4]), ([1, 8, 8, 8, 4], "Expand", [1, 8, 8, 8, 4])],
    ids=["pictures joined", "an axis in front"],
)
def test_a_graph_that_holds_the_batch_keeps_it(shape: list[int], operator: str, sizes: list[int]) -> None:
    """One whose outputs join the pictures, and one that puts another axis before them: they stay as they are."""
    model = network(shape=shape, operator=operator, sizes=sizes)
    assert open_batch(model) is model
