"""INT8 against the float network of the same bundle: what was quantized to be fast may be slower here."""

from __future__ import annotations

import statistics
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from agent.backends import open_engine
from agent.bundle.manifest import preferred
from agent.check.finding import Finding, warning
from agent.check.model import what_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.backends import Engine
    from agent.check.model import OpenModel

_TURNS, _LONGEST_S = 20, 2.0
_SLOWER = 1.2
"""What a device that does other work meanwhile does not make of two that are alike."""


def check(model: OpenModel) -> list[Finding]:
    """Return a warning when the model runs in INT8 and the bundle's float .tflite is faster. Raises AgentError."""
    bundle, info = model.bundle, model.engine.info
    floats = [each for each in preferred(bundle.manifest.artifact, "tflite") if each.precision != "int8"]
    if not floats or bundle.artifact().precision != "int8" or bundle.artifact().format != "tflite":
        return []
    real = floats[0]
    opened = open_engine(
        bundle.file(real), precision=real.precision, threads=info.threads, sha256=real.sha256
    )
    with closing(opened) as engine:
        int8_ms, float_ms = by_turns(_inference(model.engine), _inference(engine))
    if int8_ms <= float_ms * _SLOWER:
        return []
    seen = (
        f"INT8 is {int8_ms / float_ms:.1f}x slower than {real.precision} on this device"
        f" ({int8_ms:.1f} ms, {float_ms:.1f} ms)"
    )
    return [
        warning(what_of(bundle.path), seen, fix="`edge-agent tune` makes `run` take what is fastest here")
    ]


def by_turns(one: Callable[[], object], other: Callable[[], object]) -> tuple[float, float]:
    """Return the median times of two pieces of work done by turns, ms, after once each to warm up."""
    one()
    other()
    took_ms: tuple[list[float], list[float]] = ([], [])
    begin_s = time.perf_counter()
    while len(took_ms[0]) < _TURNS and time.perf_counter() - begin_s < _LONGEST_S:
        for work, times_ms in zip((one, other), took_ms, strict=True):
            at_s = time.perf_counter()
            work()
            times_ms.append((time.perf_counter() - at_s) * 1e3)
    return statistics.median(took_ms[0]), statistics.median(took_ms[1])


def _inference(engine: Engine) -> Callable[[], object]:
    return partial(engine.infer, np.zeros(engine.input.shape, engine.input.dtype))
