"""What runs a network: the Engine Protocol and the table of its implementations, imported lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from agent.backends.tflite import Runtime
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


@runtime_checkable
class BatchEngine(Engine, Protocol):
    """An engine that takes several pictures in one run, and lends the memory that it reads them from."""

    @property
    def batch(self) -> int:
        """The most pictures that one run takes."""
        ...

    def infer_batch(self, tensors: Sequence[NDArray[Any]]) -> list[tuple[NDArray[Any], ...]]:
        """Run once for 1 to `batch` inputs; return the outputs of each, the caller's own. Raises AgentError."""
        ...

    def lend(self) -> NDArray[Any]:
        """Return an array for the next input; it comes back by itself when nobody holds it any more."""
        ...


def open_engine(
    artifact: Path,
    *,
    precision: str,
    threads: int,
    sha256: str | None = None,
    runtime: Runtime | None = None,
    delegate: bool = True,
) -> Engine:
    """Open the .tflite file `artifact`; with `sha256` only if what runs has that hash.

    Raises InputMissing, BadData, NotPermitted or ServiceAway.
    """
    from agent.backends.tflite import TFLiteEngine

    return TFLiteEngine(
        artifact, precision=precision, threads=threads, sha256=sha256, runtime=runtime, delegate=delegate
    )
