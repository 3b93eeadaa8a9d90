"""The ONNX artifacts for TensorRT 10.3 and up: FP16, and INT8 as FP16 with explicit Q/DQ."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import onnx
from onnx import version_converter
from onnxconverter_common import float16
from onnxruntime.quantization import CalibrationDataReader, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from agent.errors import BadData, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

OPSET = 19
"""The first opset whose Q/DQ scales may be FP16, which strongly typed networks of FP16 need."""
_IR_VERSION = 9
"""That opset's companion."""
_QUANTIZED = ["Conv", "Gemm"]
_TENSORRT = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": _QUANTIZED,
}
"""TensorRT wants zero-points of 0 and no INT32 bias. Outputs stay in FP16: the next operator quantizes them."""


def modern(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` in opset 19 (or its own, if later), every node with a name. Raises BadData."""
    newer = copy.deepcopy(model)
    version = max(
        (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1
    )
    if version < OPSET:
        try:
            newer = version_converter.convert_version(model, OPSET)
        except Exception as error:  # the converter's own exceptions share no base
            seen = first_line(error) or type(error).__name__
            fix = f"export it with opset {OPSET}"
            raise BadData(f"the ONNX can't be brought to opset {OPSET}", seen=seen, fix=fix) from error
    newer.ir_version = max(newer.ir_version, _IR_VERSION)
    for number, node in enumerate(newer.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    return onnx.shape_inference.infer_shapes(newer)


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` computing in FP16; inputs and outputs stay float32."""
    with warnings.catch_warnings():  # of weights below 1e-7
        warnings.simplefilter("ignore")
        half: onnx.ModelProto = float16.convert_float_to_float16(copy.deepcopy(model), keep_io_types=True)
        return half


def ranges_of(model: onnx.ModelProto, inputs: Iterable[NDArray[np.float32]]) -> Any:
    """Return the extremes of every tensor to be quantized over `inputs`, in the layout of `model`."""
    with TemporaryDirectory() as scratch:
        file, probing = Path(scratch) / "float.onnx", Path(scratch) / "probing.onnx"
        onnx.save(model, str(file))
        calibrator = create_calibrator(file, _QUANTIZED, augmented_model_path=str(probing))
        calibrator.collect_data(_Reader(model.graph.input[0].name, iter(inputs)))
        return calibrator.compute_data()


def to_qdq(model: onnx.ModelProto, ranges: Any, *, kept: Collection[str] = ()) -> onnx.ModelProto:
    """Return `model`, of opset 19, with convolutions and matrix products in INT8 and the rest in FP16.

    Symmetric, weights per channel. `kept` are the names of nodes that stay in FP16 too.
    """
    quantizer = QDQQuantizer(
        copy.deepcopy(model),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=ranges,
        nodes_to_quantize=[],
        nodes_to_exclude=list(kept),
        op_types_to_quantize=_QUANTIZED,
        extra_options=dict(_TENSORRT),
    )
    quantizer.quantize_model()
    return to_fp16(quantizer.model.model)


def search_qdq(
    model: onnx.ModelProto, ranges: Any, score: Callable[[onnx.ModelProto], float], *, floor: float
) -> tuple[onnx.ModelProto, int]:
    """Return the Q/DQ form with the fewest first layers in FP16 that `score` puts at `floor`, and their number.

    A network's first layers see pixels and have few channels: they lose most in INT8 and gain least. Without one
    that reaches the floor, it is the best seen.
    """
    layers = [node.name for node in model.graph.node if node.op_type in _QUANTIZED]
    best: tuple[float, onnx.ModelProto, int] | None = None
    count = 0
    while count <= len(layers) // 2:
        form = to_qdq(model, ranges, kept=layers[:count])
        reached = score(form)
        if best is None or reached > best[0]:
            best = reached, form, count
        if reached >= floor:
            break
        count = max(1, 2 * count)
    if best is None:
        raise BadData("nothing to quantize", seen="no convolution", fix="give a convolutional network")
    return best[1], best[2]


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    """Feeds pictures to ONNX Runtime's calibration, one at a time."""

    def __init__(self, name: str, inputs: Iterator[NDArray[np.float32]]) -> None:
        self._name, self._inputs = name, inputs

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next picture under the input's name, None at the end."""
        picture = next(self._inputs, None)
        return None if picture is None else {self._name: picture}
