"""The filter of places and speeds: exact for any step, and sane whatever it is given."""

from __future__ import annotations

from functools import partial

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent import kalman

STEPS_S = st.floats(1e-3, 100.0)
predict = partial(kalman.predict, speed_hz=1.5, keeps_speed_s=3.0)


def one() -> tuple[kalman.Floats, kalman.Floats, kalman.Floats]:
    """Return centre, speed and spread of an object that was measured once."""
    return np.array([[0.5, 0.4]]), np.array([[0.2, -0.1]]), kalman.measured_once(1, jitter=0.1, speed_hz=1.5)


@given(STEPS_S, STEPS_S)
def test_two_steps_are_as_one(first_s: float, second_s: float) -> None:
    """What is known after a time does not depend on how often was looked."""
    stepped, at_once = one(), one()
    predict(*stepped, first_s)
    predict(*stepped, second_s)
    predict(*at_once, first_s + second_s)
    for got, wanted in zip(stepped, at_once, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-7, atol=1e-9)


@given(st.lists(st.tuples(STEPS_S, st.booleans()), max_size=20))
def test_the_spread_is_always_one(steps: list[tuple[float, bool]]) -> None:
    """Variances stay positive and the covariance within them, whatever is seen and for how long it is not."""
    centre, speed, spread = one()
    for dt_s, seen in steps:
        predict(centre, speed, spread, dt_s)
        if seen:
            kalman.correct(centre, speed, spread, np.array([0]), np.array([[0.6, 0.6]]), jitter=0.1)
        place, shared, pace = spread[0]
        assert place > 0
        assert pace > 0
        assert shared**2 <= place * pace * (1 + 1e-9)


def test_a_speed_fades() -> None:
    """Unseen for long, an object stands where its speed carried it to: speed times the time it is kept."""
    centre, speed, spread = one()
    predict(centre, speed, spread, 1e3)
    np.testing.assert_allclose(centre, [[0.5 + 3 * 0.2, 0.4 - 3 * 0.1]])
    np.testing.assert_allclose(speed, 0.0, atol=1e-12)


def test_a_measurement_draws_place_and_speed_to_it_and_leaves_others_alone() -> None:
    """By less than the whole way, for it has an error too; what is known gets narrower."""
    centre, speed = np.full((2, 2), 0.5), np.zeros((2, 2))
    spread = kalman.measured_once(2, jitter=0.1, speed_hz=1.5)
    predict(centre, speed, spread, 0.2)
    before = spread.copy()
    kalman.correct(centre, speed, spread, np.array([1]), np.array([[0.6, 0.5]]), jitter=0.1)
    assert 0.5 < centre[1, 0] < 0.6
    assert 0.0 < speed[1, 0] < 0.1 / 0.2
    assert (centre[1, 1], speed[1, 1]) == (0.5, 0.0)
    place, shared, pace = before[1]
    kept = 0.1**2 / (place + 0.1**2)
    np.testing.assert_allclose(spread[1], [place * kept, shared * kept, pace - shared**2 / (place + 0.1**2)])
    assert (centre[0] == 0.5).all()
    assert (spread[0] == before[0]).all()
