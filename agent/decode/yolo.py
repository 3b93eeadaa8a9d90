"""YOLOv8/11-style heads: [1, 4 + classes, n] before NMS, and end-to-end [1, n, 6] (YOLOv10, YOLO26)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.decode.nms import TOP_DETECTIONS, best, nms
from agent.decode.tensors import (
    check_classes,
    check_finite,
    check_scores,
    dequantize,
    misfit,
    stored_limit,
    to_detections,
)
from agent.messages import Detections

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from agent.bundle import Bundle, Manifest
    from agent.messages import TensorSpec


@dataclass(frozen=True, slots=True, eq=False)
class YoloDecoder:
    """Decodes centre x, y, w, h and class scores. `unit` (4, 1) turns the model's numbers into fractions."""

    spec: TensorSpec
    transposed: bool
    unit: NDArray[np.float32]
    limit: Any
    min_score: np.float32
    iou_threshold: float

    def __call__(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        """Decode one frame; each box stands for its best class."""
        table = self._table(outputs)
        peak = table[4:].max(axis=0)
        check_scores(peak)
        columns = np.flatnonzero(peak >= self.limit)
        score = dequantize(self.spec, peak[columns])
        columns, score = columns[score >= self.min_score], score[score >= self.min_score]
        if not len(columns):
            return Detections.empty()
        near = table[:, columns]
        box = dequantize(self.spec, near[:4]) * self.unit
        half = box[2:] * np.float32(0.5)
        xyxy = np.ascontiguousarray(np.concatenate((box[:2] - half, box[:2] + half)).T)
        return nms(to_detections(xyxy, score, near[4:].argmax(axis=0)), self.iou_threshold)

    def scores(self, outputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return the class scores of one frame (labels, n), as stored."""
        return self._table(outputs)[4:]

    def _table(self, outputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        table: NDArray[Any] = outputs[0][0]
        return table.T if self.transposed else table


@dataclass(frozen=True, slots=True, eq=False)
class YoloEndToEndDecoder:
    """Decodes rows of x1, y1, x2, y2, score, class that need no NMS. `unit` (4,) makes fractions of them."""

    spec: TensorSpec
    labels: int
    unit: NDArray[np.float32]
    limit: Any
    min_score: np.float32

    def __call__(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        """Decode one frame."""
        table = outputs[0][0]
        check_scores(table[:, 4])
        near = dequantize(self.spec, table[table[:, 4] >= self.limit])
        near = near[near[:, 4] >= self.min_score]
        check_finite(near)
        class_id = np.rint(near[:, 5]).astype(np.int32)
        check_classes(class_id, self.labels)
        detections = to_detections(near[:, :4] * self.unit, near[:, 4], class_id)
        return best(detections, TOP_DETECTIONS)

    def scores(self, outputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return the scores of one frame (n,), as stored."""
        scores: NDArray[Any] = outputs[0][0][:, 4]
        return scores


def build(bundle: Bundle, outputs: tuple[TensorSpec, ...], min_score: float) -> YoloDecoder:
    """Return the decoder. Raises BadData unless the output is [1, 4 + labels, n] or [1, n, 4 + labels]."""
    channels = 4 + len(bundle.labels)
    shape = outputs[0].shape if len(outputs) == 1 else ()
    if len(shape) != 3 or shape[0] != 1 or channels not in shape[1:]:
        raise misfit("yolo", f"one output of [1, {channels}, n] or [1, n, {channels}]", outputs)
    return YoloDecoder(
        outputs[0],
        shape[1] != channels,
        _unit(bundle.manifest)[:, None],
        stored_limit(outputs[0], min_score),
        np.float32(min_score),
        bundle.manifest.decoder.iou_threshold,
    )


def build_e2e(bundle: Bundle, outputs: tuple[TensorSpec, ...], min_score: float) -> YoloEndToEndDecoder:
    """Return the decoder. Raises BadData unless the one output is [1, n, 6]."""
    shape = outputs[0].shape if len(outputs) == 1 else ()
    if len(shape) != 3 or shape[0] != 1 or shape[2] != 6:
        raise misfit("yolo_e2e", "one output of [1, n, 6]", outputs)
    return YoloEndToEndDecoder(
        outputs[0],
        len(bundle.labels),
        _unit(bundle.manifest),
        stored_limit(outputs[0], min_score),
        np.float32(min_score),
    )


def _unit(manifest: Manifest) -> NDArray[np.float32]:
    if manifest.decoder.box_units == "fraction":
        return np.ones(4, np.float32)
    size = np.array([manifest.input.width, manifest.input.height] * 2, np.float64)
    return (1.0 / size).astype(np.float32)
