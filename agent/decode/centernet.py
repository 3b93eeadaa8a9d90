"""CenterNet, objects as points (Zhou et al. 2019, arXiv:1904.07850): peaks of a heat map, no NMS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.decode.nms import TOP_DETECTIONS, best
from agent.decode.tensors import check_scores, dequantize, misfit, stored_limit, to_detections
from agent.messages import Detections

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from agent.bundle import Bundle
    from agent.messages import TensorSpec

_AROUND = np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)], np.intp)


@dataclass(frozen=True, slots=True, eq=False)
class CenterNetDecoder:
    """Decodes scores [1, h, w, labels] and the pixels from the point to left, top, right, bottom.

    A point is a peak when no neighbour of the 3x3 window beats it in its class; of equal neighbours, which
    quantized maps have, the first in memory is the peak. `pixel` (4,) is one input pixel as a fraction.
    """

    heat: TensorSpec
    reach: TensorSpec
    heat_first: bool
    pixel: NDArray[np.float32]
    limit: Any
    min_score: np.float32

    def __call__(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        """Decode one frame."""
        heat, reach = outputs if self.heat_first else (outputs[1], outputs[0])
        flat = heat.reshape(-1)
        check_scores(flat)
        points = np.flatnonzero(flat >= self.limit)
        points = points[_is_peak(flat, points, self.heat.shape[1:])]
        score = dequantize(self.heat, flat[points])
        points, score = points[score >= self.min_score], score[score >= self.min_score]
        if not len(points):
            return Detections.empty()
        _, height, width, classes = self.heat.shape
        cells, class_id = np.divmod(points, classes)
        y, x = np.divmod(cells, width)
        distance = dequantize(self.reach, reach.reshape(-1, 4)[cells]) * self.pixel
        centre = np.stack((x / width, y / height), axis=1).astype(np.float32)
        xyxy = np.concatenate((centre - distance[:, :2], centre + distance[:, 2:]), axis=1)
        return best(to_detections(xyxy, score, class_id), TOP_DETECTIONS)

    def scores(self, outputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return the heat map of one frame, as stored."""
        return outputs[0 if self.heat_first else 1]


def _is_peak(flat: NDArray[Any], points: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Say which `points` (flat indices into h x w x classes) are peaks among their eight neighbours."""
    height, width, classes = shape
    cells, class_id = np.divmod(points, classes)
    y, x = np.divmod(cells, width)
    # At the border the window is cut by clipping: a neighbour is then met twice, or is the point itself.
    beside_y = np.clip(y + _AROUND[:, :1], 0, height - 1)
    beside_x = np.clip(x + _AROUND[:, 1:], 0, width - 1)
    beside = (beside_y * width + beside_x) * classes + class_id
    value, other = flat[points], flat[beside]
    beaten = (other > value) | ((other == value) & (beside < points))
    peak: NDArray[np.bool_] = ~beaten.any(axis=0)
    return peak


def build(bundle: Bundle, outputs: tuple[TensorSpec, ...], min_score: float) -> CenterNetDecoder:
    """Return the decoder. Raises BadData unless the outputs are [1, h, w, labels] and [1, h, w, 4]."""
    size, labels = bundle.manifest.input, len(bundle.labels)
    ends = [output.shape[-1:] for output in outputs]
    if ends not in ([(labels,), (4,)], [(4,), (labels,)]) or len({o.shape[:-1] for o in outputs}) != 1:
        raise misfit("centernet", f"[1, h, w, {labels}] and [1, h, w, 4]", outputs)
    heat_first = ends[0] == (labels,)
    heat, reach = outputs if heat_first else outputs[::-1]
    if len(heat.shape) != 4 or heat.shape[0] != 1:
        raise misfit("centernet", f"[1, h, w, {labels}] and [1, h, w, 4]", outputs)
    pixel = np.float32(1.0) / np.array([size.width, size.height] * 2, np.float32)
    limit = stored_limit(heat, min_score)
    return CenterNetDecoder(heat, reach, heat_first, pixel, limit, np.float32(min_score))
