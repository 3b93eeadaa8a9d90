"""How much memory one network takes: measured in a process of its own, which this module is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from agent.backends import open_engine
from agent.bench.children import answer, ask
from agent.bench.meter import peak_rss_mb
from agent.bundle import load_bundle

if TYPE_CHECKING:
    from agent.backends import Engine
    from agent.bundle import Artifact, Bundle

RUNS = 5
_LIMIT_S = 120.0


class _Question(msgspec.Struct):
    bundle: str
    file: str
    threads: int


def footprint_mb(bundle: Path, file: str, *, threads: int) -> float | None:
    """Return the peak memory, MB (10**6 bytes), of a process that only runs the artifact `file` of `bundle`.

    None where the system does not tell. Raises IOFault when it fails.
    """
    question = msgspec.json.encode(_Question(str(bundle), file, threads)).decode()
    told = ask("calibration.footprint", question, limit_s=_LIMIT_S)
    peak: float | None = msgspec.json.decode(told, type=float | None)
    return peak


def _measure(question: str) -> bytes:
    asked = msgspec.json.decode(question, type=_Question)
    bundle = load_bundle(Path(asked.bundle))
    artifact = next(each for each in bundle.manifest.artifact if each.file == asked.file)
    engine = _open(bundle, artifact, asked.threads)
    for _ in range(RUNS):
        engine.infer(np.zeros(engine.input.shape, engine.input.dtype))
    return msgspec.json.encode(peak_rss_mb())


def _open(bundle: Bundle, artifact: Artifact, threads: int) -> Engine:
    """Open the one runtime that is needed: another would take memory too."""
    file = bundle.file(artifact)
    if artifact.format == "onnx":
        from calibration.ortengine import OrtEngine

        return OrtEngine(file, precision=artifact.precision, threads=threads, sha256=artifact.sha256)
    return open_engine(file, precision=artifact.precision, threads=threads, sha256=artifact.sha256)


if __name__ == "__main__":
    answer(_measure)
