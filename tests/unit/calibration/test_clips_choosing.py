"""Which pictures are kept: diverse ones, no near-duplicates, no outliers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from calibration.clips.choosing import SAME_LEVELS, choose, features, glitches, loners, spread
from tests.unit.calibration.scenes import looks


def long_tailed(rows: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """Return brightness and motion as a camera sees them: nine tenths the same day, then dusk, night, a crowd."""
    random = np.random.default_rng(3)
    brightness = np.concatenate(
        [random.normal(140, 4, rows), random.uniform(50, 120, rows // 30), random.normal(25, 5, rows // 30)]
    )
    motion = np.abs(random.normal(0, 0.01, len(brightness)))
    busy = random.choice(len(brightness), len(brightness) // 25, replace=False)
    motion[busy] = random.uniform(0.1, 0.8, len(busy))
    return brightness, motion


def bins(brightness: np.ndarray, motion: np.ndarray) -> set[tuple[int, int]]:
    """Return which of 16 x 10 bins of brightness and motion are covered."""
    return {(int(b // 16), int(m * 10)) for b, m in zip(brightness, motion, strict=True)}


def test_it_covers_more_than_a_uniform_sample_of_the_same_size():
    """Bins of brightness and motion that are covered, and the distance to what is not chosen."""
    brightness, motion = long_tailed()
    table = looks(list(brightness), list(motion))
    space = features(table)
    chosen, _ = choose(space, table.blocks, 60)
    uniform = np.linspace(0, len(table) - 1, 60).astype(np.int64)
    ours, theirs, there = (
        len(bins(brightness[rows], motion[rows])) for rows in (chosen, uniform, np.arange(len(table)))
    )
    assert ours > 1.5 * theirs
    assert ours > 0.8 * there
    assert spread(space, chosen).max() < spread(space, uniform).max()


@given(st.integers(1, 40), st.integers(2, 60), st.integers(0, 5))
def test_no_two_chosen_ones_are_near_duplicates(count, rows, seed):
    """Nor is one of them a near-duplicate of what it is to be apart from; the same input gives the same choice."""
    random = np.random.default_rng(seed)
    base = random.integers(0, 200, (6, 18, 24))
    blocks = (base[random.integers(0, 6, rows)] + random.integers(0, 4, (rows, 18, 24))).astype(np.uint8)
    space = random.normal(0, 1, (rows, 5)).astype(np.float32)
    apart = base[:2].astype(np.uint8)
    chosen, same = choose(space, blocks, count, apart_from=apart)
    assert len(chosen) <= count
    assert len(set(chosen.tolist())) == len(chosen)
    assert not same[chosen].any()
    taken = [*blocks[chosen].astype(int), *apart.astype(int)]
    for n, one in enumerate(taken[: len(chosen)]):
        assert all(np.abs(one - other).max() > SAME_LEVELS for other in taken[n + 1 :])
    again, _ = choose(space, blocks, count, apart_from=apart)
    assert np.array_equal(chosen, again)


def test_what_is_not_chosen_is_a_near_duplicate_or_not_needed():
    """With room for all, every picture is chosen or the like of a chosen one."""
    table = looks([100.0] * 30)
    blocks = table.blocks.copy()
    blocks[10:20] = blocks[0]
    chosen, same = choose(features(table), blocks, 100)
    assert len(chosen) + same.sum() == 30
    assert len(chosen) == 20


def test_a_single_torn_picture_of_a_clip_is_a_glitch_and_something_that_rushes_past_is_none():
    """A glitch is unlike the pictures before and after it, which are alike."""
    table = looks([120.0] * 40, [0.0] * 20 + [0.9] + [0.0] * 19)
    table.colours[:] = table.colours[0]
    table.edges[:] = table.edges[0]
    table.colours[30] += 60
    table.brightness[30] = 30
    found = glitches(features(table))
    assert found.nonzero()[0].tolist() == [30]


def test_an_image_far_from_all_others_is_alone():
    """Diverse photos are no outliers; one that resembles none of them is."""
    table = looks(list(np.linspace(60, 200, 50)))
    assert not loners(features(table)).any()
    table.edges[7] += 40
    table.colours[7] -= 90
    assert loners(features(table)).nonzero()[0].tolist() == [7]


def test_pictures_that_are_all_the_same_give_one():
    """Nothing is divided by a spread of zero."""
    table = looks([90.0])[np.zeros(25, np.int64)]
    chosen, same = choose(features(table), table.blocks, 10)
    assert len(chosen) == 1
    assert same.sum() == 24
