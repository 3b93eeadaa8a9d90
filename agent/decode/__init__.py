"""From output tensors to Detections: one module a model family, one table of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from agent.bundle import Bundle
    from agent.messages import Detections, TensorSpec

_FAMILIES = {
    "yolox": "agent.decode.yolox:build",
    "yolo": "agent.decode.yolo:build",
    "yolo_e2e": "agent.decode.yolo:build_e2e",
    "ssd_postprocess": "agent.decode.ssd_postprocess:build",
    "ssd": "agent.decode.ssd:build",
    "centernet": "agent.decode.centernet:build",
    "classification": "agent.decode.classification:build",
}


class Decoder(Protocol):
    """Turns one inference's outputs, in the engine's own dtype and order, into detections by falling score.

    Boxes are fractions of the model input, not clipped to it: what reaches outside is cut when it is mapped
    to the frame. Raises BadData when the outputs are not finite or not shaped as announced.
    """

    def __call__(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        """Decode one frame."""
        ...

    def scores(self, outputs: Sequence[NDArray[Any]]) -> NDArray[Any] | None:
        """Return every score of one frame, as stored or real; None where the graph has picked a few."""
        ...


def make_decoder(bundle: Bundle, outputs: tuple[TensorSpec, ...], *, min_score: float) -> Decoder:
    """Return the decoder of `bundle` for an engine with `outputs`; it drops what is below `min_score`.

    Raises BadData, with expected and seen shapes, when the outputs are not those of the family.
    """
    module, _, function = _FAMILIES[bundle.manifest.decoder.family].partition(":")
    build = getattr(import_module(module), function)
    return cast("Callable[..., Decoder]", build)(bundle, outputs, min_score)
