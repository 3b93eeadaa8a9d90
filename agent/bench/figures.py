"""What was measured: runs, rounds of alternated runs, and what they come to. Pure."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

IDLE_SHARE = 0.5
"""A run was in idle when at least this share of its packets was never decoded."""
QUIET_STEAL = 0.03
"""A run is quiet when the host took at most this share of the machine's processor time during it."""


class Times(msgspec.Struct, frozen=True):
    """How long something took, or how old it was, over all frames of a run."""

    mean_ms: float
    p50_ms: float
    p95_ms: float

    @classmethod
    def of(cls, samples_s: Sequence[float]) -> Times | None:
        """Summarise `samples_s`; None without any."""
        if not samples_s:
            return None
        p50_ms, p95_ms = (float(q) * 1e3 for q in np.quantile(samples_s, (0.5, 0.95)))
        return cls(statistics.fmean(samples_s) * 1e3, p50_ms, p95_ms)


class Run(msgspec.Struct, frozen=True):
    """One measured run.

    `frames` of the source went in, `inferred` of them through the engine, in `wall_s`. `engine_cpu_s` is the
    processor time of the network, `other_cpu_s` that of everything else in the process. `steal` is the share
    0..1 of the machine's processor time that its host took meanwhile, None where the system does not tell.
    `not_decoded` packets of the source were sound and left out, in idle. `per_camera` splits `inferred`;
    `peak_rss_mb` is that of a process which did nothing else.
    """

    frames: int
    inferred: int
    wall_s: float
    engine_cpu_s: float
    other_cpu_s: float
    steal: float | None
    times: dict[str, Times] = {}
    drops: dict[str, int] = {}
    not_decoded: int = 0
    per_camera: tuple[int, ...] = ()
    peak_rss_mb: float | None = None

    @property
    def rate_hz(self) -> float:
        """Inferences a second."""
        return self.inferred / self.wall_s

    @property
    def idled(self) -> bool:
        """Whether the source was in idle for most of the run."""
        return self.not_decoded >= IDLE_SHARE * self.frames

    @property
    def fairness(self) -> float:
        """Inferences of the slowest camera against the fastest's."""
        return min(self.per_camera) / max(self.per_camera)

    @property
    def other_cpu_ms(self) -> float:
        """Processor time per source frame, without the engine's."""
        return self.other_cpu_s / self.frames * 1e3


class Round(msgspec.Struct, frozen=True):
    """Runs with a reference run before the first and after each: `references` is one longer than `runs`."""

    references: tuple[Run, ...]
    runs: dict[str, Run]

    def ratio(self, name: str, value: Callable[[Run], float]) -> float:
        """Return `value` of the run `name` against the mean of the reference runs beside it."""
        at = list(self.runs).index(name)
        beside = (value(self.references[at]) + value(self.references[at + 1])) / 2
        return value(self.runs[name]) / beside

    @property
    def steal(self) -> float | None:
        """The most that was stolen in any of the runs; None when not known of all."""
        return _most_stolen([*self.references, *self.runs.values()])

    @property
    def quiet(self) -> bool:
        """No run lost more than QUIET_STEAL of the machine."""
        return _is_quiet(self.steal)

    def quiet_beside(self, name: str) -> bool:
        """Tell whether the run `name` and the reference runs right beside it were quiet: all that `ratio` is of."""
        at = list(self.runs).index(name)
        return _is_quiet(_most_stolen([*self.references[at : at + 2], self.runs[name]]))


class Spread(msgspec.Struct, frozen=True):
    """A figure over all rounds, and over the quiet ones alone (None without any)."""

    median: float
    least: float
    most: float
    rounds: int
    quiet_median: float | None
    quiet_rounds: int


def _most_stolen(runs: Sequence[Run]) -> float | None:
    known = [run.steal for run in runs if run.steal is not None]
    return max(known) if len(known) == len(runs) else None


def _is_quiet(steal: float | None) -> bool:
    return steal is not None and steal <= QUIET_STEAL


def spread(
    rounds: Sequence[Round],
    figure: Callable[[Round], float],
    is_quiet: Callable[[Round], bool] = lambda one: one.quiet,
) -> Spread:
    """Summarise `figure` of each of `rounds`, of which there is at least one."""
    values = [figure(one) for one in rounds]
    quiet = [value for value, one in zip(values, rounds, strict=True) if is_quiet(one)]
    quiet_median = statistics.median(quiet) if quiet else None
    return Spread(statistics.median(values), min(values), max(values), len(values), quiet_median, len(quiet))


def ratio_spread(rounds: Sequence[Round], name: str, value: Callable[[Run], float]) -> Spread:
    """Summarise the ratio of the runs `name` to their references."""
    return spread(rounds, lambda one: one.ratio(name, value), lambda one: one.quiet_beside(name))


def rate_hz(run: Run) -> float:
    """Return the inferences a second of `run`."""
    return run.rate_hz


def other_cpu_ms(run: Run) -> float:
    """Return the processor time per source frame of `run`, without the engine's."""
    return run.other_cpu_ms
