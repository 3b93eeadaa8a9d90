"""The loop that people write first, with OpenCV: read, resize, infer, decode the boxes, again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.bench.meter import Gauge
from agent.decode import make_decoder
from agent.drawing import require_opencv
from agent.errors import BadData
from agent.preprocess import quantization_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from agent.bench.figures import Run
    from agent.bench.loops import Rig


def naive(
    rig: Rig,
    clip: Path,
    frames: int,
    *,
    every_n: int = 1,
    grab: bool = False,
    frame_rate_hz: float | None = None,
) -> Run:
    """Run the plain OpenCV loop over the first `frames` of `clip`, inferring every `every_n`-th.

    `VideoCapture.read` decodes every frame and converts it to BGR, as it always does; with `grab` those that
    are not inferred are decoded only. Those that are inferred are resized (stretched to the model's size,
    bilinear), put into the model's colour order and quantized, by a look-up table; then inference and the
    agent's own box decoder. No tracking, no events.
    OpenCV and its decoder keep as many threads as they like. With `frame_rate_hz` frames come as from a camera
    of that rate. The clocks run from the first frame read, as the agent's.

    Raises InputMissing without OpenCV, BadData when it can't read the clip.
    """
    cv2 = require_opencv("the naive loop")
    convert = converter(cv2, rig)
    decode = make_decoder(
        rig.bundle, rig.engine.outputs, min_score=rig.bundle.manifest.decoder.score_threshold
    )
    reader = cv2.VideoCapture(str(clip))
    try:
        taken, picture = reader.read()
        gauge = Gauge(rig.engine)
        begin_s, number, inferred = time.perf_counter(), 0, 0
        while taken and number < frames:
            if number % every_n == 0:
                decode(rig.engine.infer(convert(picture)))
                inferred += 1
            number += 1
            if frame_rate_hz is not None:
                time.sleep(max(0.0, begin_s + number / frame_rate_hz - time.perf_counter()))
            taken = reader.grab()
            if taken and not (grab and number % every_n):
                taken, picture = reader.retrieve()
        wall_s = time.perf_counter() - begin_s
    finally:
        reader.release()
    if not inferred:
        raise BadData("OpenCV can't read the clip", seen=clip, fix="give another by --source")
    return gauge.run(frames=number, inferred=inferred, wall_s=wall_s)


def converter(cv2: Any, rig: Rig) -> Callable[[NDArray[np.uint8]], NDArray[Any]]:
    """Return what turns a BGR picture (h, w, 3) into the model's input, stretched to its size."""
    spec, tensor = rig.bundle.manifest.input, rig.engine.input
    mean, std = np.asarray(spec.mean, np.float64), np.asarray(spec.std, np.float64)
    real = np.dtype(np.float32) == tensor.dtype
    table = None if real else quantization_table(mean, std, tensor).view(np.uint8).reshape(1, 256, 3)
    nchw = rig.bundle.artifact().layout == "nchw"

    def convert(picture: NDArray[np.uint8]) -> NDArray[Any]:
        pixels = cv2.resize(picture, (spec.width, spec.height))
        if spec.colour == "rgb":
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        if table is None:
            stored = ((pixels - mean) / std).astype(np.float32)
        else:
            stored = cv2.LUT(pixels, table).view(tensor.dtype)
        batch: NDArray[Any] = (stored.transpose(2, 0, 1) if nchw else stored)[np.newaxis]
        return np.ascontiguousarray(batch)

    return convert
