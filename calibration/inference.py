"""A bundle's artifact at work on pictures, by the agent's own preprocessing and decoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from agent.backends import open_engine
from agent.decode import make_decoder
from agent.messages import TensorSpec
from agent.pipeline import on_frame
from agent.preprocess import Preprocessor
from calibration.ortengine import OrtEngine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from agent.backends import Engine
    from agent.bundle import Artifact, Bundle, InputSpec, Manifest
    from agent.decode import Decoder
    from agent.messages import Detections, Frame, ModelInput
    from calibration.pictures import Picture


class Runner:
    """One network of `bundle`: frame in, detections out, as `edge-agent run` would make them."""

    def __init__(self, bundle: Bundle, engine: Engine, *, layout: str) -> None:
        self.bundle, self.engine = bundle, engine
        self._preprocess = Preprocessor(bundle.manifest.input, engine.input, layout=layout)
        self._decoders: dict[float, Decoder] = {}

    def tensor(self, frame: Frame) -> ModelInput:
        """Return `frame` as the network takes it."""
        return self._preprocess(frame.picture)

    def detect(self, frame: Frame, min_score: float) -> Detections:
        """Return what scores at least `min_score`, boxes as fractions of the frame. Raises BadData."""
        prepared = self.tensor(frame)
        raw = self._decoder(min_score)(self.engine.infer(prepared.tensor))
        return on_frame(raw, prepared.geometry)

    def close(self) -> None:
        """Release the engine."""
        self.engine.close()

    def _decoder(self, min_score: float) -> Decoder:
        if min_score not in self._decoders:
            self._decoders[min_score] = make_decoder(self.bundle, self.engine.outputs, min_score=min_score)
        return self._decoders[min_score]


def open_runner(bundle: Bundle, artifact: Artifact, *, threads: int = 1) -> Runner:
    """Return a Runner of one artifact of `bundle`. Raises InputMissing, BadData, ServiceAway."""
    return open_file(
        bundle,
        bundle.file(artifact),
        precision=artifact.precision,
        layout=artifact.layout,
        threads=threads,
        sha256=artifact.sha256,
    )


def open_file(
    bundle: Bundle,
    file: Path,
    *,
    precision: str,
    layout: str | None = None,
    threads: int = 1,
    sha256: str | None = None,
) -> Runner:
    """Return a Runner of `file` (.onnx or .tflite), read as the manifest of `bundle` says.

    Without `layout`, it is told by the shape of the input; with `sha256` only what has that runs.
    Raises InputMissing, BadData, ServiceAway.
    """
    opener = OrtEngine if file.suffix.lower() == ".onnx" else open_engine
    engine: Engine = opener(file, precision=precision, threads=threads, sha256=sha256)
    try:
        return Runner(bundle, engine, layout=layout or layout_of(engine.input))
    except BaseException:
        engine.close()
        raise


def layout_of(tensor: TensorSpec) -> str:
    """Return "nchw" for an input with its 3 channels first, else "nhwc"."""
    return "nchw" if len(tensor.shape) == 4 and tensor.shape[1] == 3 != tensor.shape[3] else "nhwc"


def float_inputs(
    source: Bundle | Manifest, pictures: Iterable[Picture], layout: str
) -> Iterator[NDArray[np.float32]]:
    """Yield each picture as real-valued input, (pixel - mean) / std: (1, H, W, 3) or (1, 3, H, W) float32."""
    from agent.bundle import Manifest
    from calibration.pictures import load_frame

    spec = (source if isinstance(source, Manifest) else source.manifest).input
    preprocess = Preprocessor(spec, _float_tensor(spec, layout), layout=layout)
    for picture in pictures:
        yield preprocess(load_frame(picture).picture).tensor


def _float_tensor(spec: InputSpec, layout: str) -> TensorSpec:
    shape = (1, 3, spec.height, spec.width) if layout == "nchw" else (1, spec.height, spec.width, 3)
    return TensorSpec("float input", shape, np.dtype(np.float32))
