"""When a clip begins."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.recording.plan import CLIP_S, LIGHTS, Plan, light_of

HOUR_S = 3600.0
STILL = np.full((12, 16), 100, np.float32)
OTHER = np.linspace(0, 250, 192, dtype=np.float32).reshape(12, 16)


def moved(share: float) -> np.ndarray:
    """Return a picture of which that share is not as in STILL."""
    blocks = STILL.copy()
    blocks.ravel()[: round(share * blocks.size)] += 80
    return blocks


def test_the_first_picture_begins_a_clip_and_then_it_is_regular():
    """A hundred are spread over the time, and at least one a quarter of an hour."""
    plan = Plan(24 * HOUR_S)
    begun = [t for t in range(0, 7200, 5) if plan.why(120, STILL, float(t))]
    assert begun[0] == 0
    assert set(np.diff(begun)) == {865}
    weeks = Plan(14 * 24 * HOUR_S)
    assert set(np.diff([t for t in range(0, 9000, 10) if weeks.why(120, STILL, float(t))])) == {900}


def test_another_light_begins_a_clip_at_once():
    """Dusk, night and dawn are told by the picture, not by a calendar."""
    plan = Plan(24 * HOUR_S)
    told = [plan.why(level, STILL, 20.0 * n) for n, level in enumerate((150, 80, 20, 25, 80, 150))]
    assert told == ["first", "light", "light", None, "light", "light"]
    assert plan.light == "bright"


@given(st.lists(st.floats(-2.9, 2.9), min_size=1, max_size=50), st.sampled_from(((50.0, 0), (95.0, 1))))
def test_light_that_wavers_about_a_step_is_one_light(noise, step):
    """The one that it was before."""
    level, below = step
    for before in LIGHTS[below : below + 2]:
        assert {light_of(level + off, before) for off in noise} == {before}
        assert light_of(level - 20, before) == LIGHTS[below]
        assert light_of(level + 20, before) == LIGHTS[below + 1]


def test_movement_is_worth_a_clip_more_often_than_nothing():
    """Three times as often at most."""
    still, busy = Plan(24 * HOUR_S), Plan(24 * HOUR_S)
    quiet = [t for t in range(0, 8000, 10) if still.why(120, STILL, float(t))]
    told = [t for t in range(0, 8000, 10) if busy.why(120, moved(0.05 * (t // 10 % 2)), float(t))]
    assert 2 * len(quiet) < len(told) <= 3 * len(quiet) + 1


def test_another_scene_is_recorded_soon():
    """The camera was turned: no waiting for the next regular clip, but for the picture to settle."""
    plan = Plan(24 * HOUR_S)
    assert plan.why(120, STILL, 0.0) == "first"
    told = [(t, plan.why(120, OTHER, float(t))) for t in range(5, 200, 5)]
    assert next((t, why) for t, why in told if why) == (3 * CLIP_S, "scene")
    assert sum(why is not None for _, why in told) == 1


def test_a_picture_whose_format_hides_its_luma_still_counts_for_the_regular_clips():
    """Then there is only the time to go by."""
    plan = Plan(1 * HOUR_S)
    told = [plan.why(0.0, None, float(t)) for t in range(0, 200, 5)]
    assert set(told) == {"first", "regular", None}
