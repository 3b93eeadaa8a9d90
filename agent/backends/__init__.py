"""What runs a network: the Engine Protocol and the table of its implementations, imported lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

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


def open_engine(artifact: Path, *, precision: str, threads: int, sha256: str | None = None) -> Engine:
    """Open `artifact` with the first backend that can run it; with `sha256` only if what runs has that hash.

    Raises InputMissing, BadData, NotPermitted or ServiceAway.
    """
    from agent.backends.tflite import TFLiteEngine

    return TFLiteEngine(artifact, precision=precision, threads=threads, sha256=sha256)
