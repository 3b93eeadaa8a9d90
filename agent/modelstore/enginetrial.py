"""A bundle of ONNX files alone is tried by building its engine, as the first start would: it is kept, and tested."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agent.choosing import Chooser
from agent.errors import BadData, ServiceAway
from agent.modelstore.trial import TrialResult, runtime
from agent.wire import rfc3339

if TYPE_CHECKING:
    from pathlib import Path

    from agent.backends.choice import Choice
    from agent.bundle import Bundle


def needs_engine(bundle: Bundle) -> bool:
    """Tell whether nothing but TensorRT can run `bundle`."""
    return all(artifact.format == "onnx" for artifact in bundle.manifest.artifact)


def try_engine(bundle: Bundle, sha: str, state_dir: Path) -> TrialResult:
    """Build the engine of `bundle` into the store of engines in `state_dir`, in a process of its own; see the result.

    Raises ServiceAway where TensorRT can't run, and what is no fault of the model: no memory, no room.
    """
    chooser, began_s, why = Chooser.here(state_dir), time.monotonic(), ""
    if not (choices := chooser.buildable(bundle)):
        fix = "build a tflite artifact as well, or install TensorRT"
        raise ServiceAway(f"nothing here can run {bundle.manifest.name}", seen="onnx alone", fix=fix)
    for choice in choices:
        if not (why := _objection(chooser, bundle, choice)):
            break
    took_s = round(time.monotonic() - began_s, 1)
    return TrialResult(sha, runtime(), rfc3339(time.time()), took_s, None, why)


def _objection(chooser: Chooser, bundle: Bundle, choice: Choice) -> str:
    """Return why there is no engine as `choice` says, "" when there is one."""
    try:
        chooser.engines.build(bundle, choice)
    except BadData as fault:
        return str(fault)
    return ""
