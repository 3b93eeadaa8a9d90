"""The process that tries a model, asked on its command line: whatever the model does, it does to this process alone."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from agent.assembly import open_model
from agent.backends import open_engine
from agent.bundle import load_bundle
from agent.errors import AgentError, IOFault
from agent.modelstore.question import Answer, Figures, Question
from agent.ownprogram import end_with
from agent.toldfault import ToldFault
from agent.trial import noise_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agent.backends import Engine
    from agent.bundle import Bundle

_NICE = 10
_RUNS, _FEWEST_RUNS, _WARM_UPS = 30, 5, 2
_ROUND_S, _ROUNDS = 5.0, 3
_MOST_FILE_BYTES = 64 << 20
_GRACE_S = 5
"""From SIGXCPU to SIGKILL."""
FLOOR_MS, TIMES = 50.0, 4.0
"""A model may take `TIMES` as long as the slower of the one that runs now and the factory's, `FLOOR_MS` in any case."""


def main() -> None:
    """Answer the question on the command line, in lines of JSON on standard output."""
    question = msgspec.json.decode(sys.argv[1], type=Question)
    end_with(question.parent)
    logging.getLogger("agent").setLevel(logging.ERROR)
    say = _speaker()
    base_bytes = _status_bytes("VmRSS:")
    say(Answer(base_bytes=base_bytes))
    _bind(question)
    try:
        say(Answer(figures=_try(question, base_bytes)))
    except AgentError as error:
        say(Answer(fault=ToldFault.of(error)))


def _try(question: Question, base_bytes: int) -> Figures:
    with ExitStack() as stack:
        bundle, engine = open_model(Path(question.bundle), threads=question.threads)
        stack.callback(engine.close)
        grown_bytes = _status_bytes("VmHWM:") - base_bytes
        runs = [partial(engine.infer, noise_input(bundle, engine))]
        for known, other in _rivals(question):
            stack.callback(other.close)
            runs.append(partial(other.infer, noise_input(known, other)))
        p50_ms, p95_ms, limit_ms = _latency(runs, question.max_ms)
        info = engine.info
    return Figures(info.backend, info.delegated_nodes, info.nodes, p50_ms, p95_ms, limit_ms, grown_bytes)


def _rivals(question: Question) -> Iterator[tuple[Bundle, Engine]]:
    """Open what the model is compared with. Raises IOFault where nothing else works."""
    found = 0
    for path in question.against:
        with contextlib.suppress(AgentError):
            bundle = load_bundle(Path(path))
            artifact = bundle.artifact()
            file, precision = bundle.file(artifact), artifact.precision
            yield bundle, open_engine(file, precision=precision, threads=question.threads)
            found += 1
    if not found:
        fix = "install edge-agent again: its own model does not run"
        raise IOFault("there is no model to compare with", seen=", ".join(question.against), fix=fix)


def _latency(runs: Sequence[Callable[[], object]], max_ms: float | None) -> tuple[float, float, float]:
    """Return p50 and p95 of the first of `runs`, ms, and what it may take, of the round that is best for it.

    They go by turns, so that what disturbs the device hits all; what disturbs one alone does so not in every round.
    """
    best = 0.0, float("inf"), 1.0
    for _ in range(_ROUNDS):
        took_ms = _round(runs)
        p95_ms, *known_ms = (float(np.percentile(times, 95)) for times in took_ms)
        p50_ms, limit_ms = float(np.median(took_ms[0])), max_ms or max(FLOOR_MS, TIMES * max(known_ms))
        if p95_ms / limit_ms < best[1] / best[2]:
            best = p50_ms, p95_ms, limit_ms
        if p95_ms <= limit_ms or p50_ms > limit_ms:
            break
    return best


def _round(runs: Sequence[Callable[[], object]]) -> list[list[float]]:
    took_ms: list[list[float]] = [[] for _ in runs]
    end_s = time.monotonic() + _ROUND_S
    for number in range(_WARM_UPS + _RUNS):
        for run, times in zip(runs, took_ms, strict=True):
            began_s = time.perf_counter()
            run()
            if number >= _WARM_UPS:
                times.append((time.perf_counter() - began_s) * 1e3)
        if len(took_ms[0]) >= _FEWEST_RUNS and time.monotonic() > end_s:
            break
    return took_ms


def _bind(question: Question) -> None:
    """Bound what this process may take; leave the processor to others; be the first to go when memory is short."""
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, question.cpu_s),
        (resource.RLIMIT_FSIZE, _MOST_FILE_BYTES),
        (resource.RLIMIT_DATA, _status_bytes("VmData:") + question.data_bytes),
    ):
        hard = resource.getrlimit(limit)[1]
        allowed = most + _GRACE_S if limit == resource.RLIMIT_CPU else most
        allowed = allowed if hard == resource.RLIM_INFINITY else min(allowed, hard)
        resource.setrlimit(limit, (min(most, allowed), allowed))
    os.nice(_NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _status_bytes(name: str) -> int:
    """Return a figure of this process's memory: VmHWM, the most that was resident; VmData, what RLIMIT_DATA counts."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


def _speaker() -> Callable[[Answer], None]:
    """Return what writes a line to standard output; what others print there goes to standard error from now on."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def say(answer: Answer) -> None:
        out.write(msgspec.json.encode(answer) + b"\n")

    return say


if __name__ == "__main__":
    main()
