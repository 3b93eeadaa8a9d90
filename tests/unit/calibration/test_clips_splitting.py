"""Which clips are held out: whole ones, about a third, of every light."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.clips.selecting import Choice, select, table_of
from calibration.clips.sources import Source
from calibration.clips.splitting import Candidate, cut, held_out
from calibration.clips.units import Unit
from tests.unit.calibration.scenes import looks

candidates = st.lists(
    st.builds(Candidate, st.floats(0, 255), st.integers(0, 2000), st.text("abcdef", min_size=4, max_size=4)),
    max_size=40,
)


@given(candidates)
def test_about_a_third_is_held_out_and_never_all(clips):
    """One of three; of the last two one, of a single last one none."""
    held = held_out(clips)
    assert len(held) == (len(clips) + 1) // 3
    assert held <= set(range(len(clips)))


@given(candidates, st.randoms(use_true_random=False))
def test_the_order_of_the_clips_does_not_matter(clips, random):
    """The same clips are held out however they are listed (as far as they can be told apart)."""
    unique = list({clip.key: clip for clip in clips}.values())
    shuffled = random.sample(unique, len(unique))
    assert {unique[n].key for n in held_out(unique)} == {shuffled[n].key for n in held_out(shuffled)}


@given(st.integers(0, 5000))
def test_a_cut_leaves_a_gap_and_uses_nothing_twice(pictures):
    """What comes before and after lies at least a picture apart, and a tenth of a long clip."""
    rows = list(range(pictures))
    before, after = (rows[part] for part in cut(pictures))
    assert not set(before) & set(after)
    if before and after:
        assert after[0] - before[-1] > max(1, pictures // 10 - 1)


def unit(name: str, level: float, pictures: int, tmp_path) -> Unit:
    """Return a clip of that many pictures."""
    made = looks(list(np.linspace(level - 5, level + 5, pictures)))
    return Unit((Source(tmp_path / f"{name}.mp4", f"{name}.mp4", name),), made, {})


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(10, 240), st.integers(1, 60)), min_size=1, max_size=12))
def test_no_clip_gives_pictures_to_both_parts_unless_it_is_named_as_cut(tmp_path_factory, clips):
    """The leak that would make every figure too good."""
    tmp_path = tmp_path_factory.getbasetemp()
    units = [unit(f"{n:02}", level, pictures, tmp_path) for n, (level, pictures) in enumerate(clips)]
    table = table_of(units)
    choice = select(units, table, 60)
    in_both = set(table.clip[choice.calibrate]) & set(table.clip[choice.verify])
    assert in_both <= {choice.cut}
    if choice.cut is not None:
        gap = gap_of(choice, table.clip)
        assert gap is None or gap >= 1
    assert set(table.clip[choice.verify].tolist()) <= choice.held | {choice.cut}
    assert not set(table.clip[choice.calibrate].tolist()) & choice.held


def gap_of(choice: Choice, clip: np.ndarray) -> int | None:
    """Return how many pictures lie between the two parts of the clip that was cut."""
    first = choice.calibrate[clip[choice.calibrate] == choice.cut]
    second = choice.verify[clip[choice.verify] == choice.cut]
    return int(second.min() - first.max() - 1) if len(first) and len(second) else None


def test_many_clips_are_never_cut(tmp_path):
    """Where whole clips give enough, whole clips it is."""
    units = [unit(f"{n:02}", 30 + 20 * n, 20, tmp_path) for n in range(9)]
    choice = select(units, table_of(units), 90)
    assert choice.cut is None
    assert len(choice.held) == 3
    assert choice.enough
