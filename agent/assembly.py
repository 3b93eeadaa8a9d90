"""Puts the chain of one camera together from its parts."""

from __future__ import annotations

import difflib
import logging
import sys
from typing import TYPE_CHECKING

from agent.backends import BatchEngine, open_engine
from agent.bundle import NOBODY, load_bundle
from agent.decode import make_decoder
from agent.errors import AgentError, BadConfig, BadData
from agent.events import EventMachine
from agent.opening import open_choice
from agent.pipeline import ModelSide, Pipeline
from agent.preprocess import Preprocessor
from agent.tracker import Tracker, options_for
from agent.trial import try_out
from agent.zones import Masks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.backends import Engine
    from agent.backends.choice import Choice
    from agent.bundle import Bundle, Trust
    from agent.choosing import Chooser
    from agent.config import Detect

log = logging.getLogger(__name__)

_MOST_LABELS = 10


def open_model(
    path: Path, *, threads: int = 1, trust: Trust = NOBODY, chooser: Chooser | None = None
) -> tuple[Bundle, Engine]:
    """Load the bundle `path`, open an engine for it and try it out: the model is sound, or this raises.

    What `chooser` takes is opened, without one the best tflite artifact on `threads`. An engine that has to be
    built is only waited for where nothing else can run; a built one that fails here gives way to the next best.
    Raises InputMissing, BadData (also for a model below its floor), NotPermitted or ServiceAway. The engine is
    the caller's to close.
    """
    bundle = load_bundle(path, trust)
    if chooser is not None and (choice := _ready(bundle, chooser)) is not None:
        return _open_ready(bundle, choice, chooser)
    artifact = bundle.artifact()
    bundle.check_floor(artifact)
    file, precision = bundle.file(artifact), artifact.precision
    return _tried(bundle, open_engine(file, precision=precision, threads=threads, sha256=artifact.sha256))


def open_tried(bundle: Bundle, choice: Choice, chooser: Chooser) -> tuple[Bundle, Engine]:
    """Open an engine as `choice` says and try it out; return it with the bundle that names the artifact at work.

    Raises AgentError.
    """
    named = bundle.choose(bundle.named(choice.artifact))
    named.check_floor(named.artifact())
    return _tried(*open_choice(bundle, choice, chooser))


def _ready(bundle: Bundle, chooser: Chooser) -> Choice | None:
    """Return what can run, an engine that is built now if there is nothing else; None where nothing can run.

    Raises what the last build raised, when all have failed.
    """
    failed: AgentError | None = None
    while (choice := chooser.now(bundle)) is None and (wanted := chooser.wanted(bundle)) is not None:
        log.info("%s: nothing else can run here: its engine is built first", bundle.manifest.name)
        try:
            chooser.engines.build(bundle, wanted)
        except AgentError as fault:
            log.error("%s", fault)
            failed = fault
            if not isinstance(fault, BadData):  # a want: the next start, which has nothing else, tries again
                chooser.engines.forget(bundle, wanted)
    if choice is None and failed is None and (known := chooser.failures(bundle)):
        fix = "`edge-agent engine build` tries again"
        raise BadData(f"nothing here can run {bundle.manifest.name}", seen="; ".join(known), fix=fix)
    if choice is None and failed is not None:
        raise failed
    return choice


def _open_ready(bundle: Bundle, choice: Choice, chooser: Chooser) -> tuple[Bundle, Engine]:
    """Open `choice`; an engine of TensorRT that fails gives way to what is ready then."""
    try:
        return open_tried(bundle, choice, chooser)
    except AgentError as fault:
        if choice.backend != "tensorrt":
            raise
        log.warning("engine of %s: %s", choice.artifact, fault)
        if chooser.now(bundle) == choice:  # it is not damaged: another would fail as well
            chooser.engines.give_up(bundle, choice, str(fault))
        if (following := _ready(bundle, chooser)) is None:
            raise
    return _open_ready(bundle, following, chooser)


def _tried(bundle: Bundle, engine: Engine) -> tuple[Bundle, Engine]:
    try:
        try_out(bundle, engine)
    except BaseException:
        engine.close()
        raise
    return bundle, engine


def model_side(
    bundle: Bundle, engine: Engine, detect: Detect, *, camera: str, min_score: float = 1.0
) -> ModelSide:
    """Return what `camera` needs around `engine`, with detections down to `min_score`, or tracking needs.

    Raises BadData when the model is not what its manifest says, BadConfig for labels that it does not have.
    """
    _check_labels(detect, bundle, camera)
    manifest = bundle.manifest
    threshold = manifest.decoder.score_threshold
    tracking = options_for(detect, threshold)
    min_score = min(min_score, tracking.low_score)
    lend = engine.lend if isinstance(engine, BatchEngine) else None
    return ModelSide(
        preprocess=Preprocessor(manifest.input, engine.input, layout=bundle.artifact().layout, lend=lend),
        decoder=make_decoder(bundle, engine.outputs, min_score=min_score),
        min_score=min_score,
        labels=bundle.labels,
        threshold=threshold,
        tracking=tracking,
        moves=manifest.task != "classify",
    )


def build_pipeline(
    bundle: Bundle,
    engine: Engine,
    detect: Detect,
    *,
    camera: str,
    min_score: float = 1.0,
    event_prefix: str = "event",
) -> Pipeline:
    """Return the chain of `camera` around `engine`. Raises as `model_side` does."""
    side = model_side(bundle, engine, detect, camera=camera, min_score=min_score)
    numbers = iter(range(1, sys.maxsize))
    return Pipeline(
        side=side,
        tracker=Tracker(side.tracking),
        events=EventMachine(
            detect,
            camera=camera,
            labels=side.labels,
            default_threshold=side.threshold,
            new_event_id=lambda: f"{event_prefix}-{next(numbers)}",
            moves=side.moves,
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
