"""Which backend runs which artifact with how many threads, and why no other. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent.bundle.manifest import preferred
from agent.hardware import default_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.backends.usable import Backend
    from agent.bundle.manifest import Artifact, Format
    from agent.hardware import Board

BUILT = frozenset({"litert", "tflite-runtime"})
"""The backends that this version has an engine for."""
_FORMATS: dict[str, Format] = {"tensorrt": "onnx", "litert": "tflite", "tflite-runtime": "tflite"}
"""What each backend runs; the best comes first."""


class Rejection(msgspec.Struct, frozen=True):
    """A backend, or one artifact on it, that is not taken; `artifact` None: whatever it would run."""

    backend: str
    artifact: str | None
    reason: str
    fix: str = ""


class Plan(msgspec.Struct, frozen=True):
    """What `run` does on this device. `backend`, `artifact` and `precision` are None when nothing can run."""

    backend: str | None
    artifact: str | None
    precision: str | None
    threads: int
    warnings: tuple[str, ...] = ()
    rejected: tuple[Rejection, ...] = ()


def plan(board: Board, artifacts: Sequence[Artifact], backends: Sequence[Backend]) -> Plan:
    """Take the first backend that can run one of `artifacts` on `board`: TensorRT, LiteRT, tflite-runtime.

    One that could not be tried is taken as if it could, with a warning. Of several artifacts the `preferred`;
    threads: all usable CPUs but one.
    """
    by_name = {backend.name: backend for backend in backends}
    taken: tuple[Backend, Artifact] | None = None
    rejected: list[Rejection] = []
    for name, format_ in _FORMATS.items():
        fitting = preferred(artifacts, format_)
        objection = _objection(by_name.get(name), name, format_, fitting)
        if objection:
            rejected.append(objection)
        elif taken:
            rejected.append(Rejection(name, None, f"{taken[0].name} comes first"))
        else:
            taken = (by_name[name], fitting[0])
            rejected += [
                Rejection(name, other.file, f"{fitting[0].precision} comes first") for other in fitting[1:]
            ]
    count = default_threads(board.usable_cpus)
    if taken is None:
        return Plan(None, None, None, count, rejected=tuple(rejected))
    backend, artifact = taken
    return Plan(
        backend.name, artifact.file, artifact.precision, count, _warnings(backend, artifact), tuple(rejected)
    )


def _objection(
    backend: Backend | None, name: str, format_: str, fitting: Sequence[Artifact]
) -> Rejection | None:
    """Return why a backend can't be taken, or None."""
    if backend is None:
        return Rejection(name, None, "not looked for")
    if backend.usable is False:
        return Rejection(name, None, backend.reason, backend.fix)
    if not fitting:
        return Rejection(name, None, f"the bundle has no {format_} artifact", f"add one in {format_}")
    if name not in BUILT:
        return Rejection(name, fitting[0].file, "not built in this version yet")
    return None


def _warnings(backend: Backend, artifact: Artifact) -> tuple[str, ...]:
    if backend.usable is None:
        return (f"{backend.name} {backend.reason}; {backend.fix}",)
    if backend.name == "tflite-runtime" and artifact.precision == "int8":
        return ("tflite-runtime never gives INT8 to XNNPACK: many times slower; pip install ai-edge-litert",)
    return ()
