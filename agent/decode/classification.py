"""Image classification: each class that scores is a detection of the whole input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.decode.nms import best
from agent.decode.tensors import check_scores, dequantize, misfit, stored_limit, to_detections

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from agent.bundle import Bundle
    from agent.messages import Detections, TensorSpec

TOP_CLASSES = 5


@dataclass(frozen=True, slots=True, eq=False)
class ClassificationDecoder:
    """Decodes one score a label: probabilities as they are, or logits by `softmax`."""

    spec: TensorSpec
    softmax: bool
    limit: Any
    min_score: np.float32

    def __call__(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        """Decode one frame into its best classes, five at most."""
        stored = outputs[0].reshape(-1)
        check_scores(stored)
        if self.softmax:
            probability = _softmax(dequantize(self.spec, stored))
            rows = np.flatnonzero(probability >= self.min_score)
            score = probability[rows]
        else:
            rows = np.flatnonzero(stored >= self.limit)
            score = dequantize(self.spec, stored[rows])
            rows, score = rows[score >= self.min_score], score[score >= self.min_score]
        whole = np.tile(np.array([0, 0, 1, 1], np.float32), (len(rows), 1))
        return best(to_detections(whole, score, rows), TOP_CLASSES)

    def scores(self, outputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return the one output of one frame, as stored."""
        return outputs[0]


def build(bundle: Bundle, outputs: tuple[TensorSpec, ...], min_score: float) -> ClassificationDecoder:
    """Return the decoder. Raises BadData unless the one output has one number a label."""
    labels = len(bundle.labels)
    if len(outputs) != 1 or math.prod(outputs[0].shape) != labels or not outputs[0].shape:
        raise misfit("classification", f"one output of [1, {labels}]", outputs)
    softmax = bundle.manifest.decoder.activation == "softmax"
    limit = 0 if softmax else stored_limit(outputs[0], min_score)
    return ClassificationDecoder(outputs[0], softmax, limit, np.float32(min_score))


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    power = np.exp(logits - logits.max())
    probability: NDArray[np.float32] = power / power.sum()
    return probability
