"""Whether a model that was just installed may stay: judged by what it does at work. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from agent.recent import Percentiles

SLOW_S = 10.0
"""A model must be too slow for so long; what came before its own first seconds does not count."""
_FEW = 3
"""Fewer frames than that in this time say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a pending model has to show: `frames` inferred, and `time_s` at work; p95 is at most `limit_ms`."""

    frames: int = 300
    time_s: float = 120.0
    limit_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Signs:
    """What it did since it runs; `lately` is how long its inferences of the last SLOW_S took."""

    frames: int
    not_finite: int
    lately: Percentiles | None
    stuck: bool = False


@dataclass(frozen=True, slots=True)
class Ruling:
    """`bad` says why it must go; unless `lasting` the device may have been at fault, and it may be tried again."""

    verdict: Literal["wait", "commit", "back"]
    bad: str = ""
    lasting: bool = True


class Probation:
    """That of one model, which runs since `begun_s`."""

    def __init__(self, terms: Terms, begun_s: float) -> None:
        self._terms, self._begun_s, self._well_s = terms, begun_s, begun_s

    def step(self, signs: Signs, now_s: float) -> Ruling:
        """Return what is to become of it at `now_s`. While it is stuck no time counts."""
        terms, lately = self._terms, signs.lately
        if signs.not_finite:
            return Ruling("back", "its outputs are not finite")
        if (
            terms.limit_ms is not None
            and lately is not None
            and lately.count >= _FEW
            and now_s - self._begun_s >= SLOW_S
            and (p95_ms := lately.p95_s * 1e3) > terms.limit_ms
        ):
            bad = f"too slow at work: p95 {p95_ms:.0f} ms, {terms.limit_ms:.0f} ms at most"
            return Ruling("back", bad, lasting=False)
        if signs.stuck:
            self._well_s = now_s
        if signs.frames >= terms.frames and now_s - self._well_s >= terms.time_s:
            return Ruling("commit")
        return Ruling("wait")
