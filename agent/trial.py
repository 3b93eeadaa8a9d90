"""A model tried on a few pictures: what loads and runs can still be broken."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from agent.decode import make_decoder
from agent.decode.tensors import dequantize
from agent.errors import BadData
from agent.messages import TensorSpec
from agent.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from agent.backends import Engine
    from agent.bundle import Artifact, Bundle
    from agent.bundle.golden import Golden
    from agent.decode import Decoder

    Outputs = Sequence[NDArray[Any]]

log = logging.getLogger(__name__)

_GREY = 128
_GOLDEN_RUNS = 2
_TOLERANCE = {"fp32": 0.01, "fp16": 0.05, "int8": 1.0}
"""Largest root mean square error as a share of the outputs' spread.

Found: 0.001 for a sound FP16 model and 0.15 to 0.6 with its colours swapped; 0.05 to 0.4 for sound INT8 models, 0.5
for YOLOX calibrated with the wrong range.
"""
_GRAINS_PX = (1, 8, 32)
"""Noise of several sizes: quantized scores may well be all zero for a picture that shows nothing."""


def try_out(bundle: Bundle, engine: Engine) -> None:
    """Run `engine` as a camera would, on a grey picture, on noise from fine to coarse, and on the golden inputs.

    Raises BadData when the model is not what its manifest says, and for outputs that are not finite, or the
    same for every picture, or scores of one single value: INT8 files with constant scores and live boxes
    load and run like good ones (ultralytics#18210). Also for outputs that are far from what the float network
    gave where the bundle was built.
    """
    artifact, threshold = bundle.artifact(), bundle.manifest.decoder.score_threshold
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
    if (golden := bundle.golden()) is not None:
        compare(bundle, engine, preprocess, golden, artifact)


def compare(
    bundle: Bundle, engine: Engine, preprocess: Preprocessor, golden: Golden, artifact: Artifact
) -> None:
    """Run `engine` on the first golden inputs; raise BadData for what is far from the float network's outputs.

    Of INT8 the outputs alone are compared, and only for being of another kind altogether: how accurate it is,
    `edge-calibrate verify` tells. What a graph has picked (family "ssd_postprocess") stands in another order at
    the least difference and is not compared.
    """
    decode = make_decoder(bundle, tuple(map(_as_float, engine.outputs)), min_score=1.0)
    runs = [engine.infer(preprocess.fill(pixels)) for pixels in golden.pixels[:_GOLDEN_RUNS]]
    seen = [list(map(dequantize, engine.outputs, outputs)) for outputs in runs]
    if decode.scores(seen[0]) is None:
        return
    wanted = _matched(golden, engine, artifact.file)
    if artifact.precision != "int8":
        scores = [(decode.scores(s), decode.scores(w)) for s, w in zip(seen, wanted, strict=True)]
        _check_near("scores", scores, artifact)
    for number, spec in enumerate(engine.outputs):
        pairs = [(s[number], w[number]) for s, w in zip(seen, wanted, strict=True)]
        _check_near(f"output {spec.name}", pairs, artifact)


def noise_input(bundle: Bundle, engine: Engine) -> NDArray[Any]:
    """Return the input of a picture of noise: what is skipped for zeros or slow for tiny numbers shows in no time."""
    spec = bundle.manifest.input
    pixels = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 3), np.uint8)
    return Preprocessor(spec, engine.input, layout=bundle.artifact().layout).fill(pixels)


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


def _matched(golden: Golden, engine: Engine, name: str) -> list[list[NDArray[np.float32]]]:
    """Return the golden outputs of each input in the order of the engine's, found by their shapes."""
    left = list(golden.outputs)
    chosen = []
    for spec in engine.outputs:
        fitting = [output for output in left if output.shape[1:] == spec.shape[1:]]
        if not fitting:
            shapes = ", ".join(str([1, *output.shape[1:]]) for output in left) or "no more"
            fix = f"the golden file has {shapes}: build the bundle again"
            raise BadData(f"{name}: shape of output {spec.name}", seen=list(spec.shape), fix=fix)
        chosen.append(fitting[0])
        left = [output for output in left if output is not fitting[0]]
    runs = min(_GOLDEN_RUNS, len(golden.pixels))
    return [[output[run : run + 1] for output in chosen] for run in range(runs)]


def _check_near(what: str, pairs: Sequence[tuple[Any, Any]], artifact: Artifact) -> None:
    """Raise BadData when the difference of `pairs` is large for how far the wanted numbers spread."""
    seen, wanted = (np.concatenate([np.ravel(pair[i]) for pair in pairs]) for i in (0, 1))
    spread = float(wanted.std())
    error = float(np.sqrt(np.mean((seen - wanted) ** 2))) / spread if spread else 0.0
    log.debug("%s: %s differs by %.3g of its spread from the float network", artifact.file, what, error)
    most = _TOLERANCE[artifact.precision]
    if not error <= most:
        fix = f"up to {most:g} is usual at {artifact.precision}: build the bundle again, or report this board"
        seen_text = f"differs by {error:.2g} of its spread from the float network's"
        raise BadData(f"{artifact.file}: {what}", seen=seen_text, fix=fix)


def _as_float(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(spec.name, spec.shape, np.dtype(np.float32))
