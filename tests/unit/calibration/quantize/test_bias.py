"""Bias correction, on networks of one convolution in float and in INT8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from agent.backends import open_engine
from calibration.graph import moved_biases
from calibration.quantize.bias import bias_moves
from calibration.quantize.damage import outputs_of
from tests.unit.calibration.graph.flatmodels import flat, options
from tests.unit.calibration.graph.onnxmodels import noise

if TYPE_CHECKING:
    from pathlib import Path

VALID = schema.Padding.VALID
PROBES = [np.abs(noise(1, 8, 8, 3, seed=seed)) for seed in range(4)]
STEP, OUT_STEP = 4 / 255, 32 / 255
COARSE = 0.25
"""The step of the weights: so coarse that the mean moves by far more than one step of the output."""
KINDS = {
    "CONV_2D": (noise(4, 3, 3, 3, seed=1), noise(4, seed=2), 0, "Conv2D"),
    "DEPTHWISE_CONV_2D": (noise(1, 3, 3, 3, seed=3), noise(3, seed=4), 3, "DepthwiseConv2D"),
}


def convolution(kind: str) -> bytes:
    weights, bias, _, table = KINDS[kind]
    values = {"padding": VALID, "strideH": 1, "strideW": 1}
    if kind != "CONV_2D":
        values["depthMultiplier"] = 1
    return flat([(kind, ["x", weights, bias], "y", (1, 6, 6, len(bias)), options(table, **values))])


def in_int8(kind: str, content: bytes) -> bytes:
    """Return the network of `content` with INT8 weights of the step COARSE, its input and output INT8 too."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    weights, bias, axis, _ = KINDS[kind]
    channels = len(bias)
    tensors = dict(zip("xwby", model.subgraphs[0].tensors, strict=True))

    def hold(
        name: str, form: int, steps: np.ndarray, zero_point: int = 0, values: np.ndarray | None = None
    ) -> None:
        tensor = tensors[name]
        tensor.type = form
        tensor.quantization = schema.QuantizationParametersT(
            scale=steps.astype(np.float32),
            zeroPoint=np.full(len(steps), zero_point, np.int64),
            quantizedDimension=axis if name == "w" else 0,
        )
        if values is not None:
            model.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)

    each = np.full(channels, COARSE)
    int8, int32 = schema.TensorType.INT8, schema.TensorType.INT32
    hold("x", int8, np.array([STEP]), -128)
    hold("w", int8, each, values=np.rint(weights / COARSE).astype(np.int8))
    hold("b", int32, each * STEP, values=np.rint(bias / (COARSE * STEP)).astype(np.int32))
    hold("y", int8, np.array([OUT_STEP]), 0)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def means(file: Path) -> np.ndarray:
    """Return the mean of each channel of the output over PROBES, in real numbers."""
    stored = np.concatenate([one[0] for one in outputs_of(file, PROBES)])
    real = stored * (OUT_STEP if stored.dtype == np.int8 else 1.0)
    return np.asarray(real.mean(axis=(0, 1, 2)))


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def files(kind: str, tmp_path: Path) -> tuple[Path, Path]:
    """Return the float and the INT8 network."""
    real, held = tmp_path / "real.tflite", tmp_path / "held.tflite"
    real.write_bytes(convolution(kind))
    held.write_bytes(in_int8(kind, real.read_bytes()))
    return real, held


def test_the_means_come_back(files: tuple[Path, Path]) -> None:
    """Coarse weights move the mean of the channels; with the moves of the biases it is the float network's."""
    real, held = files
    wanted, before = means(real), means(held)
    assert np.abs(before - wanted).max() > 0.2
    held.write_bytes(moved_biases(held.read_bytes(), bias_moves(real, held, PROBES)))
    assert np.abs(means(held) - wanted).max() < 0.02


def test_what_is_in_float_or_unknown_stays(files: tuple[Path, Path]) -> None:
    """Operators in float have no moves and take none, and names nobody has are no matter."""
    real, held = files
    assert bias_moves(real, real, PROBES) == {}
    channels = len(means(real))
    before = [one[0] for one in outputs_of(real, PROBES)]
    real.write_bytes(moved_biases(real.read_bytes(), {"y": np.ones(channels), "other": np.ones(2)}))
    assert all(np.array_equal(a, b[0]) for a, b in zip(before, outputs_of(real, PROBES), strict=True))
    held.write_bytes(moved_biases(held.read_bytes(), {"other": np.ones(2)}))
    open_engine(held, precision="int8", threads=1).close()


def test_a_move_beyond_int32_ends_at_its_limit(files: tuple[Path, Path]) -> None:
    """It does not come out on the other side."""
    _, held = files
    channels = len(means(held))
    held.write_bytes(moved_biases(held.read_bytes(), {"y": np.full(channels, 1e12)}))
    assert means(held).min() > 0
