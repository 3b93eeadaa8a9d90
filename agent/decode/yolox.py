"""YOLOX (Ge et al. 2021, arXiv:2107.08430): anchor-free, one box per cell of three grids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.decode.nms import nms
from agent.decode.tensors import check_scores, dequantize, misfit, stored_limit, to_detections
from agent.messages import Detections

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from agent.bundle import Bundle
    from agent.messages import TensorSpec

_STRIDES_PX = (8, 16, 32)


@dataclass(frozen=True, slots=True, eq=False)
class YoloxDecoder:
    """Decodes [1, cells, 5 + classes]: dx, dy, log w, log h in strides, objectness, class scores.

    `cell` (n, 2) is each row's x, y in its grid, `stride` (n, 2) its stride as a fraction of the input.
    """

    spec: TensorSpec
    cell: NDArray[np.float32]
    stride: NDArray[np.float32]
    limit: Any
    min_score: np.float32
    iou_threshold: float

    def __call__(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        """Decode one frame; each cell stands for its best class."""
        table = outputs[0][0]
        objectness = table[:, 4]
        check_scores(objectness)
        # A class score is at most 1, so a cell's score is at most its objectness.
        rows = np.flatnonzero(objectness >= self.limit)
        if not len(rows):
            return Detections.empty()
        near = table[rows]
        class_id = near[:, 5:].argmax(axis=1)
        parts = dequantize(self.spec, near[np.arange(len(rows))[:, None], _columns(class_id)])
        score = np.minimum(parts, 1.0).prod(axis=1)
        check_scores(score)
        keep = score >= self.min_score
        rows, near, score = rows[keep], near[keep], score[keep]
        return nms(to_detections(self._boxes(rows, near), score, class_id[keep]), self.iou_threshold)

    def scores(self, outputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return objectness times class scores of one frame (n, classes), real."""
        real = dequantize(self.spec, outputs[0][0][:, 4:])
        return real[:, :1] * real[:, 1:]

    def _boxes(self, rows: NDArray[np.intp], near: NDArray[Any]) -> NDArray[np.float32]:
        code = dequantize(self.spec, near[:, :4])
        stride = self.stride[rows]
        centre = (code[:, :2] + self.cell[rows]) * stride
        with np.errstate(over="ignore"):
            half = np.exp(code[:, 2:]) * stride * np.float32(0.5)
        return np.concatenate((centre - half, centre + half), axis=1)


def build(bundle: Bundle, outputs: tuple[TensorSpec, ...], min_score: float) -> YoloxDecoder:
    """Return the decoder. Raises BadData unless there is one output of [1, cells, 5 + labels]."""
    size = bundle.manifest.input
    cell, stride = _grids(size.width, size.height)
    expected = (1, len(cell), 5 + len(bundle.labels))
    if len(outputs) != 1 or outputs[0].shape != expected:
        raise misfit("yolox", f"one output of {list(expected)}", outputs)
    limit = stored_limit(outputs[0], min_score)
    iou_threshold = bundle.manifest.decoder.iou_threshold
    return YoloxDecoder(outputs[0], cell, stride, limit, np.float32(min_score), iou_threshold)


def _grids(width_px: int, height_px: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    cells, strides = [], []
    for stride in _STRIDES_PX:
        y, x = np.mgrid[: height_px // stride, : width_px // stride]
        cells.append(np.stack((x.ravel(), y.ravel()), axis=1))
        strides.append(np.full_like(cells[-1], stride))
    fraction = np.concatenate(strides) / np.array([width_px, height_px])
    return np.concatenate(cells).astype(np.float32), fraction.astype(np.float32)


def _columns(class_id: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the columns of objectness and best class of each row, (n, 2)."""
    return np.stack((np.full_like(class_id, 4), class_id + 5), axis=1)
