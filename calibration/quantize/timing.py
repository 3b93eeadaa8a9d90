"""How long a network takes next to another: run in turns, so that both meet the same machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from agent.backends import open_engine

if TYPE_CHECKING:
    from pathlib import Path

    from agent.backends import Engine

_WARM_UP = 3


class Times(NamedTuple):
    """Milliseconds of one inference by one thread: `ms_float` over `ms` is the median ratio of neighbouring runs."""

    ms: float
    ms_float: float


def alternated(candidate: Path, float_tflite: Path, *, rounds: int = 30) -> Times:
    """Return the times of `candidate` and of `float_tflite`, run in turns `rounds` times. Raises BadData."""
    engines = [open_engine(file, precision="", threads=1) for file in (candidate, float_tflite)]
    try:
        for engine in engines:
            for _ in range(_WARM_UP):
                _once_ms(engine)
        taken = np.array([[_once_ms(engine) for engine in engines] for _ in range(rounds)])
    finally:
        for engine in engines:
            engine.close()
    ms = float(np.median(taken[:, 0]))
    return Times(ms, ms * float(np.median(taken[:, 1] / taken[:, 0])))


def _once_ms(engine: Engine) -> float:
    tensor = np.zeros(engine.input.shape, engine.input.dtype)
    start = time.perf_counter()
    engine.infer(tensor)
    return (time.perf_counter() - start) * 1e3
