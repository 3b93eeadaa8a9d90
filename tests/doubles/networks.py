"""Small ONNX networks whose outputs are easy to tell: what the tests of engines run."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from calibration.building.onnxforms import modern, ranges_of, to_fp16, to_qdq
from calibration.graph import open_batch

_IR = 9
_OPSET = 19
SHAPE = (1, 3, 4, 5)


def two_outputs(
    *, batch: int | str = 1, half: bool = False, operator: str = "Mul", scalar: bool = False
) -> bytes:
    """Return a network of input `x` (batch, 3, 4, 5), outputs `zwei` = 2x and then `eins` = the mean of x (batch, 3).

    In that order, which neither the alphabet nor the size gives. `half`: float16 throughout; `scalar`: the mean is
    one number, without a dimension. With another `operator` than "Mul" as its first node it is a network that
    nobody can run.
    """
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    two = numpy_helper.from_array(np.array(2, np.float16 if half else np.float32), "two")
    axes = numpy_helper.from_array(np.array([0, 1, 2, 3] if scalar else [2, 3], np.int64), "axes")
    nodes = [
        helper.make_node(operator, ["x", "two"], ["zwei"], name="twice"),
        helper.make_node("ReduceMean", ["x", "axes"], ["eins"], name="mean", keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "two_outputs",
        [helper.make_tensor_value_info("x", kind, [batch, *SHAPE[1:]])],
        [
            helper.make_tensor_value_info("zwei", kind, [batch, *SHAPE[1:]]),
            helper.make_tensor_value_info("eins", kind, [] if scalar else [batch, SHAPE[1]]),
        ],
        [two, axes],
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=_IR).SerializeToString())


def convolutions() -> dict[str, bytes]:
    """Return one small network, two convolutions with an upsampling between, as fp32, fp16 and Q/DQ bundles have it."""
    numbers = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return numbers.standard_normal(shape).astype(np.float32)

    constants = {"w1": weights(8, 3, 3, 3), "b1": weights(8), "w2": weights(4, 8, 1, 1)}
    constants["scales"] = np.array([1, 1, 2, 2], np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="first", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu"),
        helper.make_node("Resize", ["r1", "", "scales"], ["up"], name="up", mode="nearest"),
        helper.make_node("Conv", ["up", "w2"], ["y"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 16, 16])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    single = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    model = modern(open_batch(single))
    ranges = ranges_of(model, (weights(1, 3, 16, 16) for _ in range(4)))
    forms = {"fp32": model, "fp16": to_fp16(model), "int8": to_qdq(model, ranges)}
    return {name: bytes(form.SerializeToString()) for name, form in forms.items()}
