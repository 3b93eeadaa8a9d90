"""SSD and EfficientDet that end in TFLite_Detection_PostProcess: boxes, classes, scores, count; NMS done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.decode.tensors import (
    check_classes,
    check_finite,
    check_scores,
    dequantize,
    misfit,
    stored_limit,
    to_detections,
)
from agent.errors import BadData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from agent.bundle import Bundle
    from agent.messages import Detections, TensorSpec

_EXPECTED = "boxes [1, n, 4], classes [1, n], scores [1, n] and count [1]"
# The order of the op itself; TensorFlow 2 exports number the same four the other way round.
_NAMED = {
    "TFLite_Detection_PostProcess": 0,
    "TFLite_Detection_PostProcess:1": 1,
    "TFLite_Detection_PostProcess:2": 2,
    "TFLite_Detection_PostProcess:3": 3,
    "StatefulPartitionedCall:3": 0,
    "StatefulPartitionedCall:2": 1,
    "StatefulPartitionedCall:1": 2,
    "StatefulPartitionedCall:0": 3,
}


@dataclass(frozen=True, slots=True, eq=False)
class PostProcessDecoder:
    """Reads the op's four outputs; `order` says at which place boxes, classes, scores and count come.

    The op's tensors have no shape before the first inference: what isn't known when the decoder is made is
    checked with each frame.
    """

    specs: tuple[TensorSpec, ...]
    order: tuple[int, int, int, int] | None
    labels: int
    min_score: np.float32

    def __call__(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        """Decode one frame; the op has sorted by falling score."""
        order = self.order or _order_by_shape([output.shape for output in outputs], self.specs)
        boxes, classes, scores, count = (outputs[place] for place in order)
        n = scores.size
        if boxes.size != 4 * n or classes.size != n or count.size != 1:
            fix = "the model's outputs are not those of TFLite_Detection_PostProcess"
            shapes = ", ".join(str(list(output.shape)) for output in outputs)
            raise BadData(f"outputs are not {_EXPECTED}", seen=shapes, fix=fix)
        spec = self.specs[order[2]]
        stored = scores.reshape(n)[: max(0, int(count.item()))]
        check_scores(stored)
        rows = np.flatnonzero(stored >= stored_limit(spec, float(self.min_score)))
        score = dequantize(spec, stored[rows])
        rows, score = rows[score >= self.min_score], score[score >= self.min_score]
        kind = dequantize(self.specs[order[1]], classes.reshape(n)[rows])
        check_finite(kind)
        class_id = np.rint(kind).astype(np.int32)
        check_classes(class_id, self.labels)
        yxyx = dequantize(self.specs[order[0]], boxes.reshape(n, 4)[rows])
        return to_detections(yxyx[:, [1, 0, 3, 2]], score, class_id)

    def scores(self, outputs: Sequence[NDArray[Any]]) -> None:  # noqa: ARG002
        """Return None: the op has dropped most scores."""
        return


def build(bundle: Bundle, outputs: tuple[TensorSpec, ...], min_score: float) -> PostProcessDecoder:
    """Return the decoder. Raises BadData unless the four outputs of the op are there."""
    if len(outputs) != 4:
        raise misfit("ssd_postprocess", _EXPECTED, outputs)
    shapes = [output.shape for output in outputs]
    known = all(shapes)
    order = _order_by_shape(shapes, outputs) if known else None
    return PostProcessDecoder(outputs, order, len(bundle.labels), np.float32(min_score))


def _order_by_shape(
    shapes: Sequence[tuple[int, ...]], specs: Sequence[TensorSpec]
) -> tuple[int, int, int, int]:
    """Return the places of boxes, classes, scores, count: by name, else by shape, classes first."""
    named = [_NAMED.get(spec.name, -1) for spec in specs]
    if sorted(named) == [0, 1, 2, 3]:
        order = [named.index(role) for role in range(4)]
    else:
        boxes = [place for place, shape in enumerate(shapes) if len(shape) == 3 and shape[2] == 4]
        count = [place for place, shape in enumerate(shapes) if shape in ((1,), (), (1, 1))][-1:]
        order = [*boxes, *(place for place in range(4) if place not in (*boxes, *count)), *count]
    if len(order) != 4:
        raise misfit("ssd_postprocess", _EXPECTED, specs)
    boxes_at, classes_at, scores_at, count_at = order
    n = shapes[scores_at][-1:]
    if shapes[boxes_at][-2:] != (*n, 4) or shapes[classes_at][-1:] != n:
        raise misfit("ssd_postprocess", _EXPECTED, specs)
    return boxes_at, classes_at, scores_at, count_at
