"""Puts the chain of one camera together from its parts."""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING

from agent.backends import open_engine
from agent.bundle import NOBODY, load_bundle
from agent.decode import make_decoder
from agent.errors import BadConfig
from agent.events import EventMachine
from agent.pipeline import Pipeline
from agent.preprocess import Preprocessor
from agent.tracker import Tracker, options_for
from agent.trial import try_out
from agent.zones import Masks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.backends import Engine
    from agent.bundle import Bundle, Trust
    from agent.config import Detect

_MOST_LABELS = 10


def open_model(path: Path, *, threads: int, trust: Trust = NOBODY) -> tuple[Bundle, Engine]:
    """Load the bundle `path`, open an engine for it and try it out: the model is sound, or this raises.

    Raises InputMissing, BadData (also for a model below its floor), NotPermitted or ServiceAway. The engine is
    the caller's to close.
    """
    bundle = load_bundle(path, trust)
    artifact = bundle.artifact("tflite")
    bundle.check_floor(artifact)
    file, precision = bundle.file(artifact), artifact.precision
    engine = open_engine(file, precision=precision, threads=threads, sha256=artifact.sha256)
    try:
        try_out(bundle, engine)
    except BaseException:
        engine.close()
        raise
    return bundle, engine


def build_pipeline(
    bundle: Bundle,
    engine: Engine,
    detect: Detect,
    *,
    camera: str,
    min_score: float = 1.0,
    event_prefix: str = "event",
) -> Pipeline:
    """Return the chain of `camera` around `engine`, with detections down to `min_score`, or tracking needs.

    Raises BadData when the model is not what its manifest says, BadConfig for labels that it does not have.
    """
    _check_labels(detect, bundle, camera)
    manifest = bundle.manifest
    tracking = options_for(detect, manifest.decoder.score_threshold)
    numbers = iter(range(1, sys.maxsize))
    return Pipeline(
        preprocess=Preprocessor(manifest.input, engine.input, layout=bundle.artifact("tflite").layout),
        decoder=make_decoder(bundle, engine.outputs, min_score=min(min_score, tracking.low_score)),
        tracker=Tracker(tracking),
        events=EventMachine(
            detect,
            camera=camera,
            labels=bundle.labels,
            default_threshold=manifest.decoder.score_threshold,
            new_event_id=lambda: f"{event_prefix}-{next(numbers)}",
            moves=manifest.task != "classify",
        ),
        keep=Masks(detect.masks).keep if detect.masks else None,
    )


def _check_labels(detect: Detect, bundle: Bundle, camera: str) -> None:
    """Raise BadConfig for a label in `detect` that the model does not have."""
    wanted = {"labels": detect.labels, "thresholds": tuple(detect.thresholds)}
    wanted |= {f"zone {zone.name}": zone.labels for zone in detect.zones}
    for key, labels in wanted.items():
        for label in labels:
            if label not in bundle.labels:
                what = f"camera {camera}: {key}: {bundle.manifest.name} has no such label"
                raise BadConfig(what, seen=label, fix=_known(label, bundle.labels))


def _known(label: str, labels: Sequence[str]) -> str:
    if close := difflib.get_close_matches(label, labels, n=1):
        return f'did you mean "{close[0]}"?'
    more = ", ..." if len(labels) > _MOST_LABELS else ""
    return f"it has {', '.join(labels[:_MOST_LABELS])}{more}"
