"""What the decoders share: limits in the stored domain, dequantizing, checks of shapes and numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.errors import BadData
from agent.messages import Detections

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from agent.messages import TensorSpec

_COARSEST_SCALE = 0.25
"""A step of the quantization above this leaves nothing of scores between 0 and 1."""


def stored_limit(spec: TensorSpec, score: float) -> Any:
    """Return the value in the dtype of `spec` that every stored score of at least `score` reaches.

    It is rounded down, so a few within a step below `score` pass too: compare again once dequantized.
    Raises BadData when the tensor's quantization is too coarse to hold scores.
    """
    if spec.dtype.kind == "f":
        return spec.dtype.type(score)
    if spec.scale > _COARSEST_SCALE:
        fix = "export with boxes as fractions 0..1 or with boxes and scores as separate outputs"
        raise BadData(
            f"output {spec.name}: scores are lost in its quantization", seen=f"scale {spec.scale:g}", fix=fix
        )
    range_ = np.iinfo(spec.dtype)
    stored = math.floor(score / (spec.scale or 1.0) + spec.zero_point)
    return spec.dtype.type(min(max(stored, range_.min), range_.max))


def dequantize(spec: TensorSpec, stored: NDArray[Any]) -> NDArray[np.float32]:
    """Return the real values, float32: (stored - zero_point) * scale for a quantized tensor."""
    real = stored.astype(np.float32, copy=False)
    if spec.scale and spec.dtype.kind != "f":
        real = (real - np.float32(spec.zero_point)) * np.float32(spec.scale)
    return real


def check_finite(values: NDArray[Any]) -> None:
    """Raise BadData if `values`, of a float dtype, hold NaN or infinity; integers always pass."""
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            total = np.add.reduce(values, axis=None, dtype=np.float32)
        if not math.isfinite(total):
            raise _not_finite()


def check_scores(scores: NDArray[Any]) -> None:
    """Raise BadData if float `scores` hold NaN or +inf, in half the time of `check_finite`."""
    if scores.dtype.kind == "f" and not math.isfinite(scores.max(initial=0)):
        raise _not_finite()


def to_detections(
    xyxy: NDArray[np.float32], score: NDArray[np.float32], class_id: NDArray[Any]
) -> Detections:
    """Return Detections of the rows whose box has an area. Raises BadData if a number is not finite."""
    check_finite(score)
    check_finite(xyxy)
    detections = Detections(xyxy, score, class_id.astype(np.int32, copy=False))
    solid = np.logical_and.reduce(xyxy[:, 2:] > xyxy[:, :2], axis=1)
    return detections if solid.all() else detections[solid]


def check_classes(class_id: NDArray[np.int32], labels: int) -> None:
    """Raise BadData if a class the model names has no label."""
    if len(class_id) and not 0 <= class_id.min() <= class_id.max() < labels:
        seen = int(class_id[(class_id < 0) | (class_id >= labels)][0])
        raise BadData(
            f"class of a detection, with {labels} labels", seen=seen, fix="use the model's own labels"
        )


def misfit(family: str, expected: str, outputs: Sequence[TensorSpec]) -> BadData:
    """Return the error for outputs that are not those of `family`."""
    seen = ", ".join(str(list(output.shape)) for output in outputs) or "none"
    fix = "use the decoder family, labels, anchors and input size that belong to this model"
    return BadData(
        f'outputs do not fit decoder family "{family}", which expects {expected}', seen=seen, fix=fix
    )


def _not_finite() -> BadData:
    fix = "the model or its conversion is broken: make the artifact again, or run its fp32 version"
    return BadData("model output is not finite", seen="NaN or infinity", fix=fix)
