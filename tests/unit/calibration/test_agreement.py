"""Agreement of two networks without labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.messages import Detections
from calibration.agreement import agreement, f1
from tests.unit.calibration.detections import a_box, found

scores = st.floats(0.03125, 1.0, width=32)
frames = st.lists(
    st.builds(
        lambda rows: found(*(a_box(0.15 * n, score, class_id) for n, (score, class_id) in enumerate(rows))),
        st.lists(st.tuples(scores, st.integers(0, 2)), max_size=6),
    ),
    min_size=1,
    max_size=5,
)


@given(frames)
def test_agrees_with_itself(seen: list[Detections]) -> None:
    """A network agrees with itself wholly, if it found anything."""
    value = agreement(seen, seen, threshold=0.3)
    assert value == pytest.approx(1.0) or (np.isnan(value) and all((f.score < 0.3).all() for f in seen))


def test_shifted_scores_do_not_matter() -> None:
    """A score may fall below the threshold by as much as lies between that and what is doubtful."""
    reference = [found(a_box(0.0, 0.9), a_box(0.5, 0.6)), found(a_box(0.2, 0.5))]
    lower = [Detections(f.xyxy, f.score - np.float32(0.25), f.class_id) for f in reference]
    assert agreement(reference, lower, threshold=0.4) == pytest.approx(1.0)


@pytest.mark.parametrize("part", [0.03, 0.3])
def test_nothing_told_is_no_agreement(part: float) -> None:
    """Scores that all lie below the threshold, in the right order: nothing is ever told."""
    reference = [found(a_box(0.0, 0.9), a_box(0.5, 0.8))]
    lower = [Detections(f.xyxy, f.score * np.float32(part), f.class_id) for f in reference]
    assert agreement(reference, lower, threshold=0.3) == 0


@pytest.mark.parametrize(("score", "class_id"), [(0.75, 0), (0.95, 7)])
def test_false_boxes_cost_wherever_they_rank(score: float, class_id: int) -> None:
    """Eight below the last hit, or of a class that the reference never has: AP50 alone would not see them."""
    reference = [found(a_box(0.0, 0.9), a_box(0.12, 0.8))]
    false = [a_box(0.24 + 0.09 * n, score, class_id) for n in range(8)]
    candidate = [found(a_box(0.0, 0.9), a_box(0.12, 0.8), *false)]
    assert agreement(reference, candidate, threshold=0.3) == pytest.approx(2 * 2 / (2 * 2 + 8))


def test_f1_counts_each_box_once() -> None:
    """A second box on the same object is an invented one; a lost one counts as much."""
    reference = [found(a_box(0.0, 0.9), a_box(0.5, 0.8)), found()]
    twice = [found(a_box(0.0, 0.9), a_box(0.0, 0.7), a_box(0.5, 0.8)), found()]
    assert f1(reference, twice, threshold=0.3) == pytest.approx(4 / 5)
    assert f1(twice, reference, threshold=0.3) == pytest.approx(4 / 5)
    assert np.isnan(f1([found()], [found()], threshold=0.3))


def test_f1_allows_what_is_doubtful() -> None:
    """How far a score may fall below the threshold is the caller's choice."""
    reference, lower = [found(a_box(0.0, 0.32))], [found(a_box(0.0, 0.2))]
    assert f1(reference, lower, threshold=0.3) == 1
    assert f1(reference, lower, threshold=0.3, doubtful=0.25) == 0


def test_doubtful_boxes_of_the_reference_count_neither_way() -> None:
    """A box that the reference scores just below the threshold is no fault when it is scored a little more."""
    reference = [found(a_box(0.0, 0.4), a_box(0.5, 0.28))]
    candidate = [found(a_box(0.5, 0.45), a_box(0.0, 0.4))]
    assert agreement(reference, candidate, threshold=0.3) == pytest.approx(1.0)


def test_invented_boxes_cost() -> None:
    """A box where the reference has nothing at all, scored above the right ones, halves the precision."""
    reference = [found(a_box(0.0, 0.9))]
    candidate = [found(a_box(0.5, 0.95), a_box(0.0, 0.9))]
    assert agreement(reference, candidate, threshold=0.3) == pytest.approx(0.5)


def test_other_label_is_a_miss() -> None:
    """The right place with another label is not found."""
    assert agreement([found(a_box(0, 0.9, 1))], [found(a_box(0, 0.9, 2))], threshold=0.3) == 0


def test_stretched_pictures_agree_alike() -> None:
    """IoU is that of the fractions: the same on any aspect."""
    reference = [found((0.0, 0.0, 0.2, 0.2, 0.9, 0))]
    just_half = [found((0.0, 0.0, 0.2, 0.101, 0.9, 0))]
    too_little = [found((0.0, 0.0, 0.2, 0.099, 0.9, 0))]
    assert agreement(reference, just_half, threshold=0.3) == pytest.approx(1.0)
    assert agreement(reference, too_little, threshold=0.3) == 0


def test_other_number_of_frames_is_refused() -> None:
    """Two runs over different frames can't be compared."""
    with pytest.raises(ValueError, match="2 frames of the reference, 1"):
        agreement([found(), found()], [found()], threshold=0.3)
