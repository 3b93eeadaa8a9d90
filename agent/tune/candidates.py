"""What there is to measure: every backend, artifact, number of threads and delegate. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.backends.choice import BATCH, Choice
from agent.hardware import default_threads
from agent.select import FORMATS, runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.backends.choice import BackendName
    from agent.backends.usable import Backend
    from agent.bundle.manifest import Artifact
    from agent.hardware import Board

_EACH_UP_TO = 4
"""From here on the numbers of threads are doubled."""
NO_CORE = "takes every core"
"""Nothing is left to decode video meanwhile."""


def candidates(board: Board, artifacts: Sequence[Artifact], backends: Sequence[Backend]) -> list[Choice]:
    """Return every choice that could run: the plan's order of backends first, then precision.

    Then delegate and threads, for TensorRT the pictures at once.
    """
    usable = {backend.name for backend in backends if backend.usable is not False}
    return [
        choice
        for name in FORMATS
        if name in usable
        for artifact in runs(name, artifacts)
        for choice in (_engines(artifact) if name == "tensorrt" else _on_cpu(name, artifact, board))
    ]


def _engines(artifact: Artifact) -> list[Choice]:
    batches = (1, BATCH) if artifact.open_batch else (1,)
    return [Choice("tensorrt", artifact.file, artifact.precision, 1, batch=batch) for batch in batches]


def _on_cpu(name: BackendName, artifact: Artifact, board: Board) -> list[Choice]:
    return [
        Choice(name, artifact.file, artifact.precision, threads, delegate)
        for delegate in (True, False)
        for threads in thread_counts(board.usable_cpus)
    ]


def thread_counts(cpus: int) -> list[int]:
    """Return the numbers of threads to try on a device with so many usable CPUs."""
    counts, doubled = {default_threads(cpus), cpus}, 1
    while doubled < cpus:
        counts.add(doubled)
        doubled = doubled + 1 if doubled < _EACH_UP_TO else doubled * 2
    return sorted(counts)


def objection_to(choice: Choice, board: Board) -> str:
    """Return why `choice` is measured for comparison alone, "" if it may be taken."""
    crowded = choice.backend != "tensorrt" and choice.threads > default_threads(board.usable_cpus)
    return NO_CORE if crowded else ""


def absent(artifacts: Sequence[Artifact], backends: Sequence[Backend]) -> tuple[str, ...]:
    """Return what can't be measured, in words: backends that don't run here, precisions the bundle does not have."""
    found = []
    by_name = {backend.name: backend for backend in backends}
    for name, form in FORMATS.items():
        backend = by_name.get(name)
        if backend is None or backend.usable is False:
            found.append(f"{name}: {backend.reason if backend else 'not looked for'}")
            continue
        int8 = [artifact.precision == "int8" for artifact in runs(name, artifacts)]
        kinds = {"int8": any(int8), "float": not all(int8)}
        found += [
            f"{name} {kind}: the bundle has no {kind} {form}" for kind, there in kinds.items() if not there
        ]
    return tuple(found)
