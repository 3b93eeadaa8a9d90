"""`edge-agent model add`: a manifest and a model file become a bundle, which is then tried."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from agent.assembly import build_pipeline
from agent.backends import open_engine
from agent.bundle import add_model
from agent.config import Detect

if TYPE_CHECKING:
    from pathlib import Path


def add_and_try(manifest: Path, artifact: Path, out: Path) -> str:
    """Make the bundle `out`; load and run the model once as `run` would; return what to tell the user.

    Raises AgentError; `out` is then removed again.
    """
    bundle = add_model(manifest, artifact, out)
    try:
        chosen = bundle.artifact("tflite")
        engine = open_engine(bundle.file(chosen), precision=chosen.precision, threads=1)
        build_pipeline(bundle, engine, Detect(), camera="trial")
    except Exception:
        shutil.rmtree(out)
        raise
    name, info = bundle.manifest.name, engine.info
    return f"{out}: {name} {chosen.precision} runs on {info.backend} ({info.delegated_nodes} delegate nodes)"
