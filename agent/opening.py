"""The engine of a choice, opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.backends import Engine
    from agent.backends.choice import Choice
    from agent.bundle import Bundle
    from agent.choosing import Chooser


def open_choice(bundle: Bundle, choice: Choice, chooser: Chooser) -> tuple[Bundle, Engine]:
    """Open an engine as `choice` says, untried; return it with the bundle that names the artifact at work.

    Raises BadData, also for an engine that is damaged, and gone now, and what an Engine does.
    """
    artifact = bundle.named(choice.artifact)
    named = bundle.choose(artifact)
    if choice.backend == "tensorrt":
        return named, chooser.engines.open(bundle, choice)
    from agent.backends.tflite import TFLiteEngine

    engine = TFLiteEngine(
        bundle.file(artifact),
        precision=artifact.precision,
        threads=chooser.threads or choice.threads,
        sha256=artifact.sha256,
        runtime="tflite-runtime" if choice.backend == "tflite-runtime" else None,
        delegate=choice.delegate,
    )
    return named, engine
