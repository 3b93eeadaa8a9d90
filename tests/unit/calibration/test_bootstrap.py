"""Intervals by resampling frames."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.bootstrap import bootstrap, figure, share


def test_interval_of_a_mean_is_the_textbooks() -> None:
    """For the mean of many numbers it is the mean plus and minus 1.96 standard errors."""
    values = np.random.default_rng(0).normal(5.0, 2.0, 400)
    found = share(values, np.ones(400))
    assert found is not None
    error = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.06)


def test_covers_the_truth_about_as_often_as_it_says() -> None:
    """Of 100 samples of a share of 0.3, the interval holds it in 95 % or so."""
    numbers = np.random.default_rng(1)
    held = 0
    for _ in range(100):
        found = share((numbers.random(80) < 0.3).astype(float), np.ones(80))
        held += found is not None and found.low <= 0.3 <= found.high
    assert 0.88 <= held / 100 <= 0.99


def test_same_frames_same_interval() -> None:
    """Nothing is left to chance from run to run."""
    values = np.arange(10.0)
    assert share(values, np.ones(10)) == share(values, np.ones(10))


def test_value_lies_in_its_interval_despite_the_bias() -> None:
    """A statistic that resampling raises, the number of distinct frames drawn twice, keeps its value inside."""

    def spread(weight: np.ndarray) -> float:
        return float((weight**2).sum())

    low, high = bootstrap(spread, 50)
    assert low <= high


def test_nothing_to_measure_is_no_figure() -> None:
    """A share of nothing, or of no frames, is None."""
    assert share(np.zeros(3), np.zeros(3)) is None
    assert figure(lambda _: float("nan"), 0) is None
