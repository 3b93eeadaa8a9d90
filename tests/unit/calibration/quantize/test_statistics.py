"""Histograms: nothing is lost when they are put together, widened, or kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibration.quantize.statistics import BINS, Statistics, dump, histogram_of, merged, parse
from tests.unit.calibration.quantize.graphs import normal

VALUES = arrays(
    np.float32, st.integers(1, 50), elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False)
)


@given(VALUES, VALUES)
def test_two_halves_count_as_the_whole(one: np.ndarray, other: np.ndarray) -> None:
    """The parts together have the extremes and the number of the whole, in few bins."""
    both = merged(histogram_of(one), histogram_of(other))
    whole = np.concatenate([one, other])
    assert both.low == whole.min()
    assert both.high == whole.max()
    assert both.counts.sum() == len(whole)
    assert len(both.counts) <= BINS


@given(VALUES, VALUES)
def test_every_value_is_in_its_bin(one: np.ndarray, other: np.ndarray) -> None:
    """After merging, the counts are those of a fresh count of all values with the merged bins."""
    both = merged(histogram_of(one), histogram_of(other))
    places = np.floor(np.concatenate([one, other]).astype(np.float64) / both.width).astype(int) - both.first
    assert np.array_equal(np.bincount(places, minlength=len(both.counts)), both.counts)


def test_a_large_tensor_is_looked_at_in_part() -> None:
    """Extremes are exact all the same, and the shape of the distribution stays."""
    values = normal(1, 1_000_000)
    seen = histogram_of(values)
    assert (seen.low, seen.high) == (values.min(), values.max())
    assert seen.counts.sum() < 100_000
    mean = (seen.centres * seen.counts).sum() / seen.counts.sum()
    assert abs(mean) < 0.02


def test_one_value_only() -> None:
    """A tensor that never changes has one bin."""
    seen = histogram_of(np.full(10, -3.0, np.float32))
    assert seen.counts.tolist() == [10]


def test_kept_and_read_back() -> None:
    """What is dumped is parsed to the same."""
    known = {name: histogram_of(normal(n, 100, 3.0)) for n, name in enumerate(("a", "b/c"))}
    back = parse(dump(Statistics(7, known)))
    assert back.pictures == 7
    assert list(back.tensors) == ["a", "b/c"]
    for name, histogram in known.items():
        other = back.tensors[name]
        assert (other.low, other.high, other.width, other.first) == (
            histogram.low,
            histogram.high,
            histogram.width,
            histogram.first,
        )
        assert other.usual == histogram.usual
        assert np.array_equal(other.counts, histogram.counts)


def test_usual_extremes_follow_slowly() -> None:
    """One bright picture moves them by a twentieth of the difference, as the quantizer's own average does."""
    dark, bright = (histogram_of(np.array([0.0, high], np.float32)) for high in (10.0, 110.0))
    both = merged(dark, bright)
    assert both.high == 110.0
    assert both.usual == (0.0, pytest.approx(15.0))
