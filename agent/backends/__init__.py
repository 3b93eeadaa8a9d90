"""What runs a network: the Engine Protocol and the table of its implementations, imported lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from agent.errors import BadData

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from agent.messages import EngineInfo, TensorSpec


class Engine(Protocol):
    """A network ready to run. It knows tensors, never labels, NMS or thresholds."""

    @property
    def input(self) -> TensorSpec:
        """The one input."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, in the model's order."""
        ...

    @property
    def info(self) -> EngineInfo:
        """Which backend took how much of the graph."""
        ...

    def infer(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Run once; the outputs are the caller's own. Raises BadData when the runtime fails."""
        ...

    def close(self) -> None:
        """Release what the engine holds."""
        ...


def open_engine(artifact: Path, *, precision: str, threads: int) -> Engine:
    """Open `artifact` with the first backend that can run it, and try it. Raises BadData or ServiceAway."""
    from agent.backends.tflite import TFLiteEngine

    engine = TFLiteEngine(artifact, precision=precision, threads=threads)
    try_out(engine, artifact.name)
    return engine


def try_out(engine: Engine, name: str) -> None:
    """Run `engine` on two different pictures: outputs that are not finite, or the same for both, are a fault.

    Raises BadData. INT8 files with constant scores load and run like good ones (ultralytics#18210).
    """
    spec = engine.input
    flat = engine.infer(np.zeros(spec.shape, spec.dtype))
    noise = engine.infer(_noise(spec))
    for output, tensor in zip(engine.outputs, noise, strict=True):
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise BadData(f"{name}: output {output.name}", seen="not finite", fix="convert the model again")
    if all(np.array_equal(a, b, equal_nan=True) for a, b in zip(flat, noise, strict=True)):
        fix = "its calibration is broken: quantize it again"
        raise BadData(f"{name}: outputs", seen="the same for every picture", fix=fix)


def _noise(spec: TensorSpec) -> NDArray[Any]:
    pixels = np.random.default_rng(0).integers(0, 256, spec.shape, np.uint8)
    return pixels.view(np.int8) if spec.dtype == np.int8 else pixels.astype(spec.dtype)
