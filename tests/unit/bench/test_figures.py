"""Ratios of alternated runs, quiet rounds, medians."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.bench.figures import QUIET_STEAL, Round, Times, rate_hz, ratio_spread, spread
from agent.bench.rounds import alternate
from tests.unit.bench.runs import rates, run


def test_a_run_is_judged_by_the_references_right_beside_it() -> None:
    """The second of two runs has the mean of the second and third reference under it."""
    one = Round((run(100), run(50), run(30)), {"a": run(60), "b": run(20)})
    assert one.ratio("a", rate_hz) == pytest.approx(60 / 75)
    assert one.ratio("b", rate_hz) == pytest.approx(20 / 40)


@pytest.mark.parametrize(
    ("steal", "quiet"), [(0.0, True), (QUIET_STEAL, True), (QUIET_STEAL + 1e-6, False), (None, False)]
)
def test_a_round_is_quiet_when_every_run_is(steal: float | None, quiet: bool) -> None:
    """One disturbed run, or one of which nothing is known, is enough; a reference counts too."""
    assert rates(90, steal=steal).quiet is quiet
    assert Round((run(steal=steal), run()), {"a": run()}).quiet is quiet


def test_a_ratio_is_quiet_when_the_runs_that_it_is_of_are() -> None:
    """What was stolen from another run of the round does not matter to it; from a reference beside it, it does."""
    loud, still = run(steal=0.2), run(steal=0.0)
    one = Round((still, still, loud), {"a": still, "b": still})
    assert (one.quiet_beside("a"), one.quiet_beside("b"), one.quiet) == (True, False, False)
    assert ratio_spread([one], "a", rate_hz).quiet_rounds == 1
    assert ratio_spread([one], "b", rate_hz).quiet_rounds == 0


def test_disturbed_rounds_count_in_the_median_of_all_and_not_in_the_quiet_one() -> None:
    """Both are told, with their counts."""
    found = ratio_spread([rates(95), rates(50, steal=0.2), rates(93)], "pipeline", rate_hz)
    assert (found.median, found.least, found.most) == pytest.approx((0.93, 0.5, 0.95))
    assert (found.rounds, found.quiet_rounds) == (3, 2)
    assert found.quiet_median == pytest.approx(0.94)


def test_without_a_quiet_round_there_is_no_quiet_figure() -> None:
    """None, and not the median of all."""
    found = ratio_spread([rates(95, steal=None)], "pipeline", rate_hz)
    assert (found.quiet_median, found.quiet_rounds) == (None, 0)


@given(st.lists(st.tuples(st.floats(1, 1000), st.floats(0, 0.5)), min_size=1, max_size=12))
def test_a_spread_is_the_median_of_all_and_of_the_quiet(values: list[tuple[float, float]]) -> None:
    """Whatever the rounds were."""
    rounds = [rates(value, steal=steal) for value, steal in values]
    found = spread(rounds, lambda one: one.runs["pipeline"].rate_hz)
    quiet = [rate for rate, steal in values if steal <= QUIET_STEAL]
    assert found.median == pytest.approx(statistics.median(rate for rate, _ in values))
    assert found.quiet_rounds == len(quiet)
    assert found.quiet_median == (pytest.approx(statistics.median(quiet)) if quiet else None)
    assert found.least <= found.median <= found.most


def test_times_are_milliseconds_and_none_without_samples() -> None:
    """Mean and quantiles of seconds."""
    times = Times.of([0.001] * 19 + [0.021])
    assert times is not None
    assert (times.mean_ms, times.p50_ms) == pytest.approx((2.0, 1.0))
    assert 1.0 <= times.p95_ms < 21.0
    assert Times.of([]) is None


def test_references_run_before_and_after_each_contender_and_are_shared_by_rounds() -> None:
    """Two rounds of two contenders take five references."""
    order: list[str] = []

    def named(name: str):
        def measure():
            order.append(name)
            return run(len(order))

        return measure

    rounds = list(alternate(named("r"), {"a": named("a"), "b": named("b")}, rounds=2))
    assert "".join(order) == "rarbrarbr"
    assert rounds[0].references[-1] is rounds[1].references[0]
    assert [len(one.references) for one in rounds] == [3, 3]


def test_without_a_reference_the_contenders_run_alone() -> None:
    """As the sampled loop does without OpenCV."""
    rounds = list(alternate(None, {"a": run}, rounds=2))
    assert [one.references for one in rounds] == [(), ()]
