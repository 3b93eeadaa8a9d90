"""A model tried on a few pictures: what loads and runs can still be broken."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from agent.decode import make_decoder
from agent.errors import BadData
from agent.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from agent.backends import Engine
    from agent.bundle import Bundle
    from agent.decode import Decoder

    Outputs = Sequence[NDArray[Any]]

log = logging.getLogger(__name__)

_GREY = 128
_GRAINS_PX = (1, 8, 32)
"""Noise of several sizes: quantized scores may well be all zero for a picture that shows nothing."""


def try_out(bundle: Bundle, engine: Engine) -> None:
    """Run `engine` as a camera would, on a grey picture and on noise from fine to coarse.

    Raises BadData when the model is not what its manifest says, and for outputs that are not finite, or the
    same for every picture, or scores of one single value: INT8 files with constant scores and live boxes
    load and run like good ones (ultralytics#18210).
    """
    artifact, threshold = bundle.artifact("tflite"), bundle.manifest.decoder.score_threshold
    preprocess = Preprocessor(bundle.manifest.input, engine.input, layout=artifact.layout)
    decode = make_decoder(bundle, engine.outputs, min_score=threshold)
    size = bundle.manifest.input.width, bundle.manifest.input.height
    runs = [engine.infer(preprocess(picture).tensor) for picture in _pictures(*size)]
    for outputs in runs:
        _check_finite(engine, outputs, artifact.file)
        decode(outputs)
    fix = "its calibration is broken: quantize it again"
    if all(_same(runs[0], outputs) for outputs in runs[1:]):
        raise BadData(f"{artifact.file}: outputs", seen="the same for every picture", fix=fix)
    value = _one_score(decode, runs)
    if value == 0:  # a sound INT8 model may see nothing in noise
        log.warning(
            "%s scores 0 on all trial pictures: if it never finds anything, quantize it again", artifact.file
        )
    elif value is not None:
        raise BadData(f"{artifact.file}: scores are constant", seen=f"{value:g} everywhere", fix=fix)


def _pictures(width: int, height: int) -> Iterator[av.VideoFrame]:
    """Yield the trial pictures, yuv420p, of the input's size made even."""
    columns, lines = width + width % 2, height + height % 2
    shape = lines * 3 // 2, columns
    yield av.VideoFrame.from_ndarray(np.full(shape, _GREY, np.uint8), format="yuv420p")
    numbers = np.random.default_rng(0)
    for grain in _GRAINS_PX:
        noise = numbers.integers(0, 256, (-(-shape[0] // grain), -(-shape[1] // grain)), np.uint8)
        full = noise.repeat(grain, axis=0).repeat(grain, axis=1)[: shape[0], : shape[1]]
        yield av.VideoFrame.from_ndarray(np.ascontiguousarray(full), format="yuv420p")


def _check_finite(engine: Engine, outputs: Outputs, name: str) -> None:
    for spec, tensor in zip(engine.outputs, outputs, strict=True):
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise BadData(f"{name}: output {spec.name}", seen="not finite", fix="convert the model again")


def _same(one: Outputs, other: Outputs) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def _one_score(decode: Decoder, runs: Sequence[Outputs]) -> float | None:
    """Return the value that all scores of all `runs` have, None if they differ or the family can't tell."""
    seen = [scores for outputs in runs if (scores := decode.scores(outputs)) is not None and scores.size]
    low, high = min((s.min() for s in seen), default=0), max((s.max() for s in seen), default=1)
    return float(low) if low == high else None
