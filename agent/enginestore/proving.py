"""An engine that is on trial at work: its mark stays until it has run often enough, or has come to a good end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.enginestore import marks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from agent.backends import BatchEngine
    from agent.messages import EngineInfo, TensorSpec

RUNS = 1000
"""Good runs after which an engine is trusted: minutes of a camera, many times those of its self-test."""


class ProvenEngine:
    """`engine`, a BatchEngine, with the `mark` that is taken away when it has run well."""

    def __init__(self, engine: BatchEngine, mark: Path) -> None:
        self._engine, self._mark = engine, mark
        self._left = RUNS

    @property
    def input(self) -> TensorSpec:
        """The one input, for one picture."""
        return self._engine.input

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs for one picture."""
        return self._engine.outputs

    @property
    def info(self) -> EngineInfo:
        """That of the engine."""
        return self._engine.info

    @property
    def batch(self) -> int:
        """The most pictures that one run takes."""
        return self._engine.batch

    def lend(self) -> NDArray[Any]:
        """Return an array for the next input."""
        return self._engine.lend()

    def infer(self, tensor: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Run once."""
        return self.infer_batch([tensor])[0]

    def infer_batch(self, tensors: Sequence[NDArray[Any]]) -> list[tuple[NDArray[Any], ...]]:
        """Run once for all `tensors`."""
        results = self._engine.infer_batch(tensors)
        self._left -= 1
        if self._left == 0:
            marks.clear(self._mark)
        return results

    def close(self) -> None:
        """Release the engine: what was to go wrong has not."""
        self._engine.close()
        if self._left > 0:
            marks.clear(self._mark)
            self._left = 0
