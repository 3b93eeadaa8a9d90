"""`edge-agent engine build`: the engine that `run` would build is built before, in sight."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from agent.choosing import Chooser
from agent.errors import AgentError, BadData

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.bundle import Bundle
    from agent.enginestore.key import Record

log = logging.getLogger(__name__)


def build_for(
    bundle: Bundle,
    state_dir: Path,
    *,
    precision: str | None = None,
    tell: Callable[[str], None] | None = None,
    root: Path = Path("/"),
) -> Record:
    """Build the best engine of `bundle`, or that of `precision`, unless it is there; return what it is.

    One that fails gives way to the next best; what failed before is tried again. `tell` hears how it goes; the
    facts of the device are read below `root`. Raises BadData, also for a bundle without such an ONNX file,
    ServiceAway where TensorRT can't run, TryAgain, CannotCreate, IOFault.
    """
    chooser = Chooser.here(state_dir, root=root, tell=tell)
    chooser.engines.require()
    choices = [each for each in chooser.buildable(bundle) if precision in {None, each.precision}]
    if not choices:
        what = (
            f"{bundle.manifest.name} has no ONNX file of {precision or 'int8 or fp16'} that reaches its floor"
        )
        seen = ", ".join(artifact.file for artifact in bundle.manifest.artifact)
        raise BadData(what, seen=seen, fix="`edge-calibrate build` makes int8-qdq.onnx and fp16.onnx")
    *others, last = choices
    for choice in others:
        try:
            return chooser.engines.build(bundle, choice, again=True)
        except AgentError as fault:  # noqa: PERF203 - two at most
            log.error("%s", fault)
    return chooser.engines.build(bundle, last, again=True)
