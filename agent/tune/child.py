"""The process that measures one choice for a while, asked on its command line. A crash ends it alone."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent.backends import BatchEngine, open_engine
from agent.backends.choice import Choice  # noqa: TC001 - msgspec reads the annotations
from agent.bench.meter import peak_rss_mb
from agent.bundle import load_bundle
from agent.choosing import Chooser
from agent.errors import AgentError
from agent.opening import open_choice
from agent.ownprogram import end_with
from agent.trial import noise_input, try_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.backends import Engine
    from agent.bundle import Bundle

_WARM_UP_S, _WARM_UPS = 0.2, 2
_FEWEST = 3
"""Inferences that are timed however long they take."""


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Time `choice` of the bundle for `seconds`, for the pictures of `cameras`; with `trial` see first if it works."""

    bundle: str
    state_dir: str
    choice: Choice
    seconds: float
    trial: bool
    cameras: int = 1


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long each inference took, and each of `batch` pictures at once where there are more than one.

    `peak_rss_mb` is that of the process before the trial. Or the `fault`.
    """

    took_ms: tuple[float, ...] = ()
    batch: int = 1
    batch_took_ms: tuple[float, ...] = ()
    peak_rss_mb: float | None = None
    fault: str = ""


def main() -> None:
    """Answer the question on the command line, as JSON on standard output; end with the process named there."""
    end_with(int(sys.argv[2]))
    logging.getLogger("agent").setLevel(logging.ERROR)
    question = msgspec.json.decode(sys.argv[1], type=Question)
    try:
        answer = measure(question)
    except AgentError as error:
        answer = Answer(fault=str(error))
    sys.stdout.buffer.write(msgspec.json.encode(answer))


def measure(question: Question) -> Answer:
    """Open the engine, warm it up, time it on a picture of noise, and try it out if asked. Raises AgentError."""
    bundle, choice = load_bundle(Path(question.bundle)), question.choice
    bundle = bundle.choose(bundle.named(choice.artifact))
    with closing(_open(bundle, choice, Path(question.state_dir))) as engine:
        tensor = noise_input(bundle, engine)
        took_ms, batch, batch_took_ms = repeat(partial(engine.infer, tensor), seconds=question.seconds), 1, []
        if isinstance(engine, BatchEngine) and (together := min(engine.batch, question.cameras)) > 1:
            batch = together
            batch_took_ms = repeat(partial(engine.infer_batch, [tensor] * batch), seconds=question.seconds)
        rss_mb = peak_rss_mb()
        if question.trial:
            try_out(bundle, engine)
    return Answer(tuple(took_ms), batch, tuple(batch_took_ms), rss_mb)


def repeat(work: Callable[[], object], *, seconds: float) -> list[float]:
    """Do `work` again and again for `seconds`, after a few times to warm up; return how long each took, ms."""
    _repeat(work, seconds=min(_WARM_UP_S, seconds), fewest=_WARM_UPS)
    return _repeat(work, seconds=seconds, fewest=_FEWEST)


def _repeat(work: Callable[[], object], *, seconds: float, fewest: int) -> list[float]:
    took_ms: list[float] = []
    begin_s = now_s = time.perf_counter()
    while len(took_ms) < fewest or now_s - begin_s < seconds:
        work()
        done_s = time.perf_counter()
        took_ms.append((done_s - now_s) * 1e3)
        now_s = done_s
    return took_ms


def _open(bundle: Bundle, choice: Choice, state_dir: Path) -> Engine:
    if choice.backend == "tensorrt":
        chooser = Chooser.here(state_dir)
        chooser.engines.build(bundle, choice)
        return open_choice(bundle, choice, chooser)[1]
    artifact = bundle.artifact()
    return open_engine(
        bundle.file(artifact),
        precision=artifact.precision,
        threads=choice.threads,
        sha256=artifact.sha256,
        runtime=choice.backend,
        delegate=choice.delegate,
    )


if __name__ == "__main__":
    main()
