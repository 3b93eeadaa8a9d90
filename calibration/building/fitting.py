"""Does the manifest's input fit the network? Colour order and range show only in what it finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from agent.decode import make_decoder
from agent.errors import BadData
from agent.preprocess import Preprocessor
from calibration.bootstrap import bootstrap

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from agent.backends import Engine
    from agent.bundle import Bundle, InputSpec

MIN_GAIN = 1.1
"""Another setting must find this many times as much, on any draw of the pictures. The right one of YOLOX,
person-ssdlite and CenterNet finds 1.28 times as much as the next best, or more, on COCO photographs."""
_MIDDLE = 127.5
_RANGES = {
    "0..255": ((0.0,) * 3, (1.0,) * 3),
    "0..1": ((0.0,) * 3, (255.0,) * 3),
    "-1..1": ((_MIDDLE,) * 3, (_MIDDLE,) * 3),
    "ImageNet's": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
"""What networks are trained on, mean and std in RGB order."""


def check_fit(draft: Bundle, float_engine: Engine, pixels: Sequence[NDArray[np.uint8]]) -> None:
    """Run `float_engine`, NHWC, on `pixels` (H, W, 3) as `draft` says, and as other manifests would say.

    Raises BadData when it finds nothing either way, when another colour order or range finds clearly more, and
    when the outputs are not those of the decoder. A classifier, which always finds something, is only run.
    """
    stated = draft.manifest.input
    found = _evidence(draft, stated, float_engine, pixels)
    if draft.manifest.task != "detect":
        return
    others = [(spec, _evidence(draft, spec, float_engine, pixels)) for spec in alternatives(stated)]
    spec, most = max(others, key=lambda other: float(other[1].sum()))
    if not found.any() and not most.any():
        threshold = draft.manifest.decoder.score_threshold
        fix = "give clips that show what it is for; if they do, correct decoder, labels or score_threshold"
        raise BadData(
            f"the float network finds nothing of score {threshold:g} in {len(pixels)} pictures", fix=fix
        )
    least_gain, _ = bootstrap(lambda weight: float(weight @ (most - MIN_GAIN * found)), len(pixels))
    if least_gain > 0:
        ratio = "nothing" if not found.any() else f"1/{most.sum() / found.sum():.1f} of that"
        raise BadData(
            f"the manifest's input does not fit the network: {_told(stated)} finds {ratio}",
            seen=f"{_told(spec)} finds {most.mean():.2g} a picture",
            fix="did you mean that? Correct [input], or give --as-is if the manifest is right",
        )


def alternatives(stated: InputSpec) -> Iterator[InputSpec]:
    """Yield every other colour order and range."""
    for colour in ("rgb", "bgr"):
        for mean, std in (*_RANGES.values(), (stated.mean, stated.std)):
            order = slice(None, None, -1 if colour == "bgr" and (mean, std) in _RANGES.values() else 1)
            other = msgspec.structs.replace(stated, colour=colour, mean=mean[order], std=std[order])
            if other != stated:
                yield other


def _evidence(
    draft: Bundle, spec: InputSpec, engine: Engine, pixels: Sequence[NDArray[np.uint8]]
) -> NDArray[np.float64]:
    """Return for each picture the sum of the scores of what is found, less that in its mean colour alone.

    A network out of its range may find something everywhere.
    """
    threshold = draft.manifest.decoder.score_threshold
    preprocess = Preprocessor(spec, engine.input, layout="nhwc")
    decode = make_decoder(draft, engine.outputs, min_score=threshold)
    order = slice(None, None, 1 if spec.colour == draft.manifest.input.colour else -1)

    def found(picture: NDArray[np.uint8]) -> float:
        return float(decode(engine.infer(preprocess.fill(picture[..., order]))).score.sum())

    return np.array([found(each) - found(_flat(each)) for each in pixels]).clip(min=0)


def _flat(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.full_like(picture, picture.mean(axis=(0, 1)).round())


def _told(spec: InputSpec) -> str:
    return f"colour = {spec.colour}, mean = {list(spec.mean)}, std = {list(spec.std)}"
