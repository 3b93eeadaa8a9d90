"""The candidates by turns, each time in a fresh process: what disturbs the device hits all alike."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from agent.bench.figures import Times
from agent.measured import Measured
from agent.ownprogram import command_of
from agent.tune.child import Answer, Question

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.backends.choice import Choice

    Ask = Callable[[Question], Answer]

LIMIT_S = 300.0
"""Beyond the time to measure: a Pi Zero with a cold SD card needs half a minute to load, its trial another."""
BUILD_LIMIT_S = 3600.0
"""TensorRT may have to build the engine first: many minutes on an Orin Nano."""


@dataclass
class _Entrant:
    choice: Choice
    objection: str
    before_c: float | None = None
    after_c: float | None = None
    peak_rss_mb: float | None = None
    failed: bool = False
    took_ms: list[float] = field(default_factory=list)
    batch: int = 1
    batch_took_ms: list[float] = field(default_factory=list)

    def take(self, answer: Answer) -> None:
        """Add what one turn brought."""
        self.took_ms += answer.took_ms
        self.batch_took_ms += answer.batch_took_ms
        self.batch = answer.batch
        self.peak_rss_mb = max(filter(None, (self.peak_rss_mb, answer.peak_rss_mb)), default=None)

    def result(self) -> Measured:
        """Return what all turns came to."""
        times = None if self.failed else Times.of([ms / 1e3 for ms in self.took_ms])
        batched = None if self.failed else Times.of([ms / 1e3 for ms in self.batch_took_ms])
        return Measured(
            choice=self.choice,
            inferences=len(self.took_ms),
            p50_ms=times.p50_ms if times else None,
            p95_ms=times.p95_ms if times else None,
            batch=self.batch,
            batch_ms=batched.p50_ms if batched else None,
            peak_rss_mb=self.peak_rss_mb,
            before_c=self.before_c,
            after_c=self.after_c,
            objection=self.objection,
        )


def hold(
    bundle: Path,
    state_dir: Path,
    choices: Sequence[tuple[Choice, str]],
    *,
    rounds: int,
    seconds: float,
    cameras: int = 1,
    ask: Ask,
    heat: Callable[[], float | None],
    tell: Callable[[Choice, int], None],
) -> tuple[Measured, ...]:
    """Measure each of `choices` for `seconds` in all, for the pictures of `cameras`, by turns in so many `rounds`.

    A choice comes with an objection to it, "" for none. Its trial is in the first round; one that fails has its
    fault as objection and no more turns. `heat` tells the temperature, C; `tell` gets the choice and the
    round, from 0, before each turn.
    """
    entrants = [_Entrant(choice, objection) for choice, objection in choices]
    for number in range(rounds):
        for entrant in entrants:
            if entrant.failed:
                continue
            tell(entrant.choice, number)
            if not number:
                entrant.before_c = heat()
            question = Question(
                str(bundle), str(state_dir), entrant.choice, seconds / rounds, number == 0, cameras
            )
            answer = ask(question)
            if answer.fault:
                entrant.failed, entrant.objection = True, answer.fault
                continue
            entrant.take(answer)
            entrant.after_c = heat()
    return tuple(entrant.result() for entrant in entrants)


def ask_child(question: Question) -> Answer:
    """Have `question` answered by a process of its own, whose crash or hang is a fault."""
    command = command_of("agent.tune.child", msgspec.json.encode(question).decode(), str(os.getpid()))
    limit_s = question.seconds + (BUILD_LIMIT_S if question.choice.backend == "tensorrt" else LIMIT_S)
    try:
        done = subprocess.run(  # noqa: S603 - ourselves
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return Answer(fault=f"no answer within {limit_s:.0f} s")
    except OSError as error:
        return Answer(fault=f"no process: {error.strerror}")
    try:
        return msgspec.json.decode(done.stdout, type=Answer)
    except msgspec.DecodeError:
        return Answer(fault=_last_words(done))


def _last_words(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        number = -done.returncode
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return f"it crashed ({name})"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return "".join(filter(str.isprintable, lines[-1]))[:160] if lines else f"it ended with {done.returncode}"
