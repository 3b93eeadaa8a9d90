"""What goes into a bundle's golden.npz: a few inputs, and what the float network made of them here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from agent.bundle.golden import Golden
from agent.messages import TensorSpec
from agent.preprocess import Preprocessor
from calibration.pictures import load_frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from agent.backends import Engine
    from agent.bundle import Manifest
    from calibration.pictures import Picture

INPUTS = 2
"""The agent runs two at start; each costs about a megabyte in the bundle."""


def pixels_of(manifest: Manifest, pictures: Sequence[Picture]) -> Iterator[NDArray[np.uint8]]:
    """Yield each picture as the agent's preprocessing makes it, (H, W, 3), before mean and std."""
    plain = msgspec.structs.replace(manifest.input, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    shape = (1, plain.height, plain.width, 3)
    preprocess = Preprocessor(plain, TensorSpec("pixels", shape, np.dtype(np.uint8)), layout="nhwc")
    for picture in pictures:
        yield preprocess(load_frame(picture).picture).tensor[0]


def make_golden(manifest: Manifest, float_engine: Engine, pictures: Sequence[Picture]) -> Golden:
    """Return the first of `pictures` with the outputs of `float_engine`, the float .tflite."""
    pixels = list(pixels_of(manifest, pictures[:INPUTS]))
    preprocess = Preprocessor(manifest.input, float_engine.input, layout="nhwc")
    runs = [float_engine.infer(preprocess.fill(each)) for each in pixels]
    return Golden(np.stack(pixels), tuple(np.concatenate(outputs) for outputs in zip(*runs, strict=True)))
