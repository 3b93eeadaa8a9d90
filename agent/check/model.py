"""A model bundle: hashes, self-test, how much of it XNNPACK runs, how long an inference takes."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from agent.assembly import build_pipeline, open_model
from agent.bundle import NOBODY
from agent.check.finding import Finding, fault_of, ok, warning
from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.backends import Engine
    from agent.bundle import Bundle, Trust
    from agent.check.target import CameraTarget
    from agent.choosing import Chooser
    from agent.messages import EngineInfo

_INVOKES = 30
_MEASURE_S = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class OpenModel:
    """A model that works. `infer_ms` is the median of bare inferences, `cpu_ms` what one costs all cores."""

    bundle: Bundle
    engine: Engine
    infer_ms: float
    cpu_ms: float


def open_and_time(path: Path, *, chooser: Chooser | None = None, trust: Trust = NOBODY) -> OpenModel:
    """Open the bundle `path` as `run` does with `chooser`, without one on one thread, and time it.

    Raises AgentError. The engine is the caller's.
    """
    bundle, engine = open_model(path, chooser=chooser, trust=trust)
    spec = engine.input
    tensor = np.zeros(spec.shape, spec.dtype)
    engine.infer(tensor)
    times_ms: list[float] = []
    began_s, cpu_s = time.perf_counter(), time.process_time()
    while len(times_ms) < _INVOKES and time.perf_counter() - began_s < _MEASURE_S:
        at_s = time.perf_counter()
        engine.infer(tensor)
        times_ms.append((time.perf_counter() - at_s) * 1e3)
    cpu_ms = (time.process_time() - cpu_s) * 1e3 / len(times_ms)
    return OpenModel(bundle, engine, statistics.median(times_ms), cpu_ms)


def judge(model: OpenModel) -> list[Finding]:
    """Return the rows of a model that works."""
    manifest, info = model.bundle.manifest, model.engine.info
    what = what_of(model.bundle.path)
    text = (
        f"{manifest.name} v{manifest.version} {info.precision}, {model.bundle.origin.text}: sha256 and self-test"
        f" good, {info.backend},{_threads(info)} {model.infer_ms:.1f} ms"
    )
    doubts = model.bundle.doubts(model.bundle.artifact())
    warnings = [warning(what, text, fix=fix) for text, fix in doubts]
    return [ok(what, f"{text}, {_delegated(info)}"), *warnings, *_slow(what, info)]


def settings(model: OpenModel, cameras: Sequence[CameraTarget]) -> list[Finding]:
    """Return a row for each of `cameras` whose labels the model does not have."""
    rows = [(camera, _mismatch(model, camera)) for camera in cameras]
    return [fault_of(f"{camera.what} settings", error) for camera, error in rows if error is not None]


def _mismatch(model: OpenModel, camera: CameraTarget) -> AgentError | None:
    try:
        build_pipeline(model.bundle, model.engine, camera.detect, camera=camera.name)
    except AgentError as error:
        return error
    return None


def what_of(path: Path) -> str:
    """Return the name of the bundle `path` in a row."""
    return f"model {path.name}"


def _threads(info: EngineInfo) -> str:
    if not info.threads:
        return ""
    return f" {info.threads} {'thread' if info.threads == 1 else 'threads'},"


def _delegated(info: EngineInfo) -> str:
    if info.backend == "tensorrt":
        return f"{info.nodes} layers"
    if not info.delegate:
        return f"TFLite's own kernels, as `tune` measured them faster ({info.nodes} operators)"
    if not info.delegated_nodes:
        return f"XNNPACK runs none of {info.nodes} operators"
    parts = "1 part" if info.delegated_nodes == 1 else f"{info.delegated_nodes} parts"
    return f"XNNPACK runs it in {parts} ({info.nodes} operators)"


def _slow(what: str, info: EngineInfo) -> list[Finding]:
    if info.delegated_nodes or not info.delegate:
        return []
    fix = "make /proc/cpuinfo and /sys visible to the service (no ProcSubset=pid)"
    if info.backend.startswith("tflite-runtime"):
        fix = "tflite-runtime never gives INT8 to XNNPACK: pip install ai-edge-litert"
    return [warning(what, f"not delegated: {info.backend} runs it many times slower than XNNPACK", fix=fix)]
