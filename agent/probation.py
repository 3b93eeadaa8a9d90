"""Whether a model that was just installed may stay: judged by what it does at work. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from agent.recent import Percentiles

SLOW_S = 10.0
"""A model must be too slow for so long; what came before its own first seconds does not count."""
_AGAIN_S = 60.0
"""Pause before one that may be as slow as the device is comes under suspicion again."""
_SLOW, _FAST_MS = 4.0, 50.0
"""At work a model may take so many times what its trial took; below so much it is never too slow."""
_FEW = 3
"""Fewer frames than that in this time say nothing."""


class Tried(Protocol):
    """What a trial beside other models gave."""

    @property
    def p95_ms(self) -> float:
        """That of the model."""
        ...

    @property
    def limit_ms(self) -> float:
        """The most that it may be."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a pending model has to show: `frames` inferred, and `time_s` at work; p95 is at most `limit_ms`."""

    frames: int = 300
    time_s: float = 120.0
    limit_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Signs:
    """What it did since it runs; `lately` is how long its inferences of the last SLOW_S at most took."""

    frames: int
    not_finite: int
    lately: Percentiles | None
    stuck: bool = False


@dataclass(frozen=True, slots=True)
class Ruling:
    """`bad` says why it must go; unless `lasting` the device may have been at fault, and it may be tried again.

    "slow": it is, or the device has much else to do: a trial at this moment tells which.
    """

    verdict: Literal["wait", "commit", "slow", "back"]
    bad: str = ""
    lasting: bool = True


def limit_of(trial: Tried | None) -> float | None:
    """Return the p95, ms, that is too slow at work for a model whose trial gave these figures."""
    return None if trial is None else max(_SLOW * trial.p95_ms, _FAST_MS)


class Probation:
    """That of one model, which runs since `begun_s`."""

    def __init__(self, terms: Terms, begun_s: float) -> None:
        self._terms, self._well_s = terms, begun_s
        self._limit_ms, self._slow_from_s = terms.limit_ms, begun_s + SLOW_S

    def step(self, signs: Signs, now_s: float) -> Ruling:
        """Return what is to become of it at `now_s`. While it is stuck no time counts."""
        terms, lately = self._terms, signs.lately
        if signs.not_finite:
            return Ruling("back", "its outputs are not finite")
        if (
            self._limit_ms is not None
            and now_s >= self._slow_from_s
            and (bad := _slowness(lately, self._limit_ms))
        ):
            return Ruling("slow", bad, lasting=False)
        if signs.stuck:
            self._well_s = now_s
        if signs.frames >= terms.frames and now_s - self._well_s >= terms.time_s:
            return Ruling("commit")
        return Ruling("wait")

    def compare(self, meanwhile: Percentiles | None, trial: Tried | None, now_s: float) -> Ruling:
        """Return what is to become of one that is slow, by a `trial` of now and how long it took at work `meanwhile`.

        It goes back when it is too slow beside the other models, or at work beside its trial. Else the device is
        slow, and so may the model be. Without figures of a trial nothing is known.
        """
        self._slow_from_s = now_s + _AGAIN_S
        if trial is None or self._limit_ms is None:
            return Ruling("wait")
        if trial.p95_ms > (limit_ms := max(trial.limit_ms, self._limit_ms)):
            bad = f"too slow at work: p95 {trial.p95_ms:.0f} ms in a trial, {limit_ms:.0f} ms at most"
            return Ruling("back", bad, lasting=False)
        self._limit_ms = max(self._limit_ms, limit_of(trial) or 0.0)
        bad = _slowness(meanwhile, self._limit_ms)
        return Ruling("back", bad, lasting=False) if bad else Ruling("wait")


def _slowness(seen: Percentiles | None, limit_ms: float) -> str:
    """Return in what way a model was too slow, "" if it was not."""
    if seen is None or seen.count < _FEW or (p95_ms := seen.p95_s * 1e3) <= limit_ms:
        return ""
    return f"too slow at work: p95 {p95_ms:.0f} ms, {limit_ms:.0f} ms at most"
