"""Whether a new model may stay: what speaks for it, and what against."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.probation import Probation, Ruling, Signs, Terms, limit_of
from agent.recent import Percentiles, Recent, percentiles


class Tried(NamedTuple):
    """Figures of a trial."""

    p95_ms: float
    limit_ms: float


TERMS = Terms(frames=300, time_s=120.0, limit_ms=100.0)
WAIT, COMMIT = Ruling("wait"), Ruling("commit")


def signs(frames: int, p95_ms: float = 50.0, *, count: int = 100, odd: int = 0, stuck: bool = False) -> Signs:
    """Return what a model did."""
    return Signs(frames, odd, Percentiles(count, p95_ms / 2e3, p95_ms / 1e3), stuck)


@pytest.mark.parametrize(
    ("frames", "at_s", "ruling"),
    [(300, 120.0, COMMIT), (299, 500.0, WAIT), (5000, 119.9, WAIT), (0, 1e6, WAIT)],
)
def test_it_stays_after_frames_and_time(frames: int, at_s: float, ruling: Ruling) -> None:
    """Both are needed: a camera that is away proves nothing, nor does a clip that is over in a second."""
    assert Probation(TERMS, 0.0).step(signs(frames), at_s) == ruling


def test_numbers_that_are_none_end_it_at_once() -> None:
    """However well it did before."""
    ruling = Probation(TERMS, 0.0).step(signs(5000, odd=1), 500.0)
    assert (ruling.verdict, ruling.bad) == ("back", "its outputs are not finite")


@pytest.mark.parametrize(
    ("at_s", "count", "verdict"), [(9.0, 100, "wait"), (10.0, 100, "slow"), (10.0, 2, "wait")]
)
def test_too_slow_is_who_is_so_for_ten_seconds(at_s: float, count: int, verdict: str) -> None:
    """The first seconds are those of a cold cache, and two frames say nothing."""
    assert Probation(TERMS, 0.0).step(signs(50, 101.0, count=count), at_s).verdict == verdict


@pytest.mark.parametrize(
    ("trial", "work_p95_ms", "verdict"),
    [
        (Tried(30.0, 100.0), 101.0, "wait"),  # a starved device: its trial takes longer as well
        (Tried(30.0, 100.0), 121.0, "back"),  # it takes more than that, with what it sees at work
        (Tried(90.0, 80.0), 101.0, "wait"),  # the others would be as slow as its first trial allows
        (Tried(110.0, 80.0), 115.0, "back"),  # the others are not
        (Tried(110.0, 200.0), 115.0, "wait"),  # they are slower than ever
        (None, 1e6, "wait"),
    ],
)
def test_a_slow_model_goes_back_and_a_slow_device_is_no_fault(
    trial: Tried | None, work_p95_ms: float, verdict: str
) -> None:
    """What is compared is of one moment: a trial beside the other models, and the work meanwhile."""
    probation = Probation(TERMS, 0.0)
    assert probation.step(signs(50, 101.0), 20.0).verdict == "slow"
    work = Percentiles(100, work_p95_ms / 2e3, work_p95_ms / 1e3)
    assert probation.compare(work, trial, 30.0).verdict == verdict
    assert probation.step(signs(50, 1e5), 60.0) == WAIT, "no trial a second"
    assert probation.step(signs(50, 1e5), 90.0).verdict == "slow"


@pytest.mark.parametrize(("p95_ms", "limit_ms"), [(5.0, 50.0), (30.0, 120.0)])
def test_a_model_that_is_fast_may_be_slower_at_work(p95_ms: float, limit_ms: float) -> None:
    """Four times its trial, and what nobody would call slow."""
    assert limit_of(Tried(p95_ms, 100.0)) == limit_ms


def test_without_figures_of_a_trial_nothing_is_too_slow() -> None:
    """There is nothing to compare with."""
    assert Probation(Terms(frames=1, time_s=0.0), 0.0).step(signs(1, 1e6), 20.0) == COMMIT


def test_the_time_begins_anew_after_a_hang() -> None:
    """Two minutes mean two minutes without one."""
    probation = Probation(TERMS, 0.0)
    assert probation.step(signs(300, stuck=True), 100.0) == WAIT
    assert probation.step(signs(300), 130.0) == WAIT
    assert probation.step(signs(300), 220.0) == COMMIT


@given(st.lists(st.floats(0, 10), min_size=1, max_size=300))
def test_percentiles_are_values_that_occurred(values: list[float]) -> None:
    """By nearest rank: at least so many values are at most that."""
    found = percentiles(values)
    assert found is not None
    for share, value in ((0.5, found.p50_s), (0.95, found.p95_s)):
        assert value in values
        assert sum(each <= value for each in values) >= share * len(values)
        assert sum(each < value for each in values) < share * len(values)


def test_only_the_last_minute_counts() -> None:
    """What is older is no news, and of nothing there is no number."""
    recent = Recent(60.0)
    for second in range(100):
        recent.observe(float(second), float(second))
    assert recent.read(99.0) == Percentiles(60, 69.0, 96.0)
    assert recent.read(99.0, since_s=98.0) == Percentiles(1, 99.0, 99.0)
    assert recent.read(1000.0) is None
    recent.clear()
    assert recent.read(99.0) is None
