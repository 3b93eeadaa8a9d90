"""SSD (Liu et al. 2016, arXiv:1512.02325) with raw box codes: boxes are offsets from given anchors."""

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

_CENTRE_SCALE = np.float32(10.0)
_SIZE_SCALE = np.float32(5.0)
"""The box coder of the TensorFlow Object Detection API: y_scale, x_scale 10; height_scale, width_scale 5."""


@dataclass(frozen=True, slots=True, eq=False)
class SsdDecoder:
    """Decodes codes [1, n, 4] (dy, dx, log h, log w) and scores [1, n, 1 + labels], background first.

    `centre` and `size` (n, 2) are those of the anchors, x before y.
    """

    codes: TensorSpec
    score_spec: TensorSpec
    scores_first: bool
    centre: NDArray[np.float32]
    size: NDArray[np.float32]
    limit: Any
    min_score: np.float32
    iou_threshold: float

    def __call__(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        """Decode one frame; each anchor stands for its best class."""
        scores = self.scores(outputs)
        peak = scores.max(axis=1) if scores.shape[1] > 1 else scores[:, 0]
        check_scores(peak)
        rows = np.flatnonzero(peak >= self.limit)
        score = dequantize(self.score_spec, peak[rows])
        rows, score = rows[score >= self.min_score], score[score >= self.min_score]
        if not len(rows):
            return Detections.empty()
        codes = outputs[1 if self.scores_first else 0].reshape(-1, 4)[rows]
        xyxy = self._boxes(rows, dequantize(self.codes, codes))
        return nms(to_detections(xyxy, score, scores[rows].argmax(axis=1)), self.iou_threshold)

    def scores(self, outputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return the scores of one frame (n, labels), as stored, without the background's."""
        scores: NDArray[Any] = outputs[0 if self.scores_first else 1].reshape(len(self.centre), -1)
        return scores[:, 1:]

    def _boxes(self, rows: NDArray[np.intp], code: NDArray[np.float32]) -> NDArray[np.float32]:
        size = self.size[rows]
        centre = code[:, 1::-1] / _CENTRE_SCALE * size + self.centre[rows]
        with np.errstate(over="ignore"):
            half = np.exp(code[:, :1:-1] / _SIZE_SCALE) * size * np.float32(0.5)
        return np.concatenate((centre - half, centre + half), axis=1)


def build(bundle: Bundle, outputs: tuple[TensorSpec, ...], min_score: float) -> SsdDecoder:
    """Return the decoder. Raises BadData unless codes and scores are there, for as many anchors as given."""
    anchors = np.zeros((0, 4), np.float32) if bundle.anchors is None else bundle.anchors
    columns = 1 + len(bundle.labels)
    codes_shape, scores_shape = (len(anchors), 4), (len(anchors), columns)
    flat = [_without_ones(output.shape) for output in outputs]
    if flat not in ([codes_shape, scores_shape], [scores_shape, codes_shape]):
        raise misfit("ssd", f"[1, {len(anchors)}, 4] and [1, {len(anchors)}, {columns}]", outputs)
    scores_first = flat[0] != codes_shape
    codes, scores = outputs[::-1] if scores_first else outputs
    low, high = anchors[:, 1::-1], anchors[:, :1:-1]
    return SsdDecoder(
        codes,
        scores,
        scores_first,
        (low + high) * np.float32(0.5),
        high - low,
        stored_limit(scores, min_score),
        np.float32(min_score),
        bundle.manifest.decoder.iou_threshold,
    )


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return `shape` of rows x columns: [1, n, c] and [1, n, 1, c] are both (n, c)."""
    if len(shape) == 4 and shape[2] == 1:
        shape = (*shape[:2], shape[3])
    return shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
