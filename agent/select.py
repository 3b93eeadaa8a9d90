"""Which backend runs which artifact with how many threads, and why no other. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent.backends.choice import BATCH, BackendName, Choice
from agent.bundle.manifest import preferred
from agent.hardware import default_threads
from agent.measured import Device, choose, slower_int8, told

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.backends.usable import Backend
    from agent.bundle.manifest import Artifact, Format
    from agent.hardware import Board
    from agent.measured import Measured, Tuning

FORMATS: dict[BackendName, Format] = {"tensorrt": "onnx", "litert": "tflite", "tflite-runtime": "tflite"}
"""What each backend runs; the best comes first."""
_ENGINES = ("int8", "fp16")
"""What TensorRT engines are built of."""
_BUILD = "`edge-calibrate build` makes it"
_TUNE = "`edge-agent tune` measures anew"


class Rejection(msgspec.Struct, frozen=True):
    """A backend, or one artifact on it, that is not taken; `artifact` None: whatever it would run."""

    backend: str
    artifact: str | None
    reason: str
    fix: str = ""


class Plan(msgspec.Struct, frozen=True):
    """What `run` does on this device. `backend`, `artifact` and `precision` are None when nothing can run.

    `delegate` and `batch` as in Choice. `tuned` tells what was measured here, "" where that decided nothing.
    """

    backend: BackendName | None
    artifact: str | None
    precision: str | None
    threads: int
    delegate: bool = True
    batch: int = 1
    tuned: str = ""
    warnings: tuple[str, ...] = ()
    rejected: tuple[Rejection, ...] = ()

    @property
    def choice(self) -> Choice | None:
        """What is taken."""
        if self.backend is None or self.artifact is None or self.precision is None:
            return None
        return Choice(
            self.backend, self.artifact, self.precision, self.threads, self.delegate, batch=self.batch
        )


def plan(
    board: Board, artifacts: Sequence[Artifact], backends: Sequence[Backend], tuning: Tuning | None = None
) -> Plan:
    """Take what was measured best of `artifacts` on `board`, else the first backend that can run one of them.

    That is TensorRT, LiteRT, tflite-runtime; of several artifacts the `preferred`; threads: all usable CPUs but
    one. A backend that could not be tried is taken as if it could, with a warning. A `tuning` of another state
    of the device decides nothing, with a warning.
    """
    by_name = {backend.name: backend for backend in backends}
    threads = default_threads(board.usable_cpus)
    able = {
        name: fitting
        for name in FORMATS
        if (fitting := runs(name, artifacts)) and _objection(by_name.get(name), name, artifacts) is None
    }
    changes = Device.of(board, backends).differences(tuning.device) if tuning else ()
    best = _measured_best(tuning, able) if tuning and not changes else None
    taken = best.choice if best else _first(able, threads)
    rejected = tuple(_rejected(by_name, artifacts, taken, tuning if best else None))
    if taken is None:
        return Plan(None, None, None, threads, rejected=rejected)
    warnings = _warnings(by_name[taken.backend], taken)
    if changes:
        warnings.append(f"tuned when this device was another: {'; '.join(changes)}; {_TUNE}")
    if tuning and best and (slower := slower_int8(best, tuning.measured)):
        warnings.append(slower)
    return Plan(
        taken.backend,
        taken.artifact,
        taken.precision,
        taken.threads,
        taken.delegate,
        taken.batch,
        told(tuning, best) if tuning and best else "",
        tuple(warnings),
        rejected,
    )


def runs(backend: BackendName, artifacts: Sequence[Artifact]) -> list[Artifact]:
    """Return those of `artifacts` that `backend` can run, the `preferred` first."""
    fitting = preferred(artifacts, FORMATS[backend])
    return [each for each in fitting if backend != "tensorrt" or each.precision in _ENGINES]


def _first(able: Mapping[BackendName, Sequence[Artifact]], threads: int) -> Choice | None:
    """Return the best backend with its best artifact."""
    for name, (artifact, *_) in able.items():
        if name == "tensorrt":
            batch = BATCH if artifact.open_batch else 1
            return Choice(name, artifact.file, artifact.precision, 1, batch=batch)
        return Choice(name, artifact.file, artifact.precision, threads)
    return None


def _measured_best(tuning: Tuning, able: Mapping[BackendName, Sequence[Artifact]]) -> Measured | None:
    files = {(name, artifact.file) for name, fitting in able.items() for artifact in fitting}
    return choose(each for each in tuning.measured if (each.choice.backend, each.choice.artifact) in files)


def _objection(backend: Backend | None, name: BackendName, artifacts: Sequence[Artifact]) -> Rejection | None:
    """Return why a backend can't be taken, or None."""
    if backend is None:
        return Rejection(name, None, "not looked for")
    if backend.usable is False:
        return Rejection(name, None, backend.reason, backend.fix)
    format_ = FORMATS[name]
    if not preferred(artifacts, format_):
        return Rejection(name, None, f"the bundle has no {format_} artifact", f"add one in {format_}")
    if not runs(name, artifacts):
        reason = f"the bundle has no {' or '.join(_ENGINES)} {format_} artifact"
        return Rejection(name, None, reason, _BUILD)
    return None


def _rejected(
    by_name: Mapping[str, Backend], artifacts: Sequence[Artifact], taken: Choice | None, tuning: Tuning | None
) -> list[Rejection]:
    """Return every backend that is not taken, and every other artifact of the one that is, with the reason."""
    found = []
    for name in FORMATS:
        objection = _objection(by_name.get(name), name, artifacts)
        if objection is not None or taken is None:
            found += [objection] if objection else []
        elif name != taken.backend:
            reason = _lost(tuning, name) if tuning else f"{taken.backend} comes first"
            found.append(Rejection(name, None, reason))
        else:
            for other in runs(name, artifacts):
                if other.file != taken.artifact:
                    reason = _lost(tuning, name, other.file) if tuning else f"{taken.precision} comes first"
                    found.append(Rejection(name, other.file, reason))
    return found


def _lost(tuning: Tuning, backend: str, artifact: str | None = None) -> str:
    """Return why what was measured of `backend`, or of one artifact on it, is not what runs."""
    mine = [
        m for m in tuning.measured if m.choice.backend == backend and artifact in {None, m.choice.artifact}
    ]
    if not mine:
        return "not measured"
    if (best := choose(mine)) is not None and best.each_ms is not None:
        return f"measured {best.each_ms:.1f} ms"
    return mine[0].objection


def _warnings(backend: Backend, taken: Choice) -> list[str]:
    if backend.usable is None:
        return [f"{backend.name} {backend.reason}; {backend.fix}"]
    if backend.name == "tflite-runtime" and taken.precision == "int8":
        return ["tflite-runtime never gives INT8 to XNNPACK: many times slower; pip install ai-edge-litert"]
    return []
