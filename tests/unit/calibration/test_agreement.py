"""Agreement of two networks without labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.messages import Detections
from calibration.agreement import agreement_ap50
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
    value = agreement_ap50(seen, seen, threshold=0.3)
    assert value == pytest.approx(1.0) or (np.isnan(value) and all((f.score < 0.3).all() for f in seen))


def test_shifted_scores_do_not_matter() -> None:
    """The order of scores counts, not their height: quantization moves them all."""
    reference = [found(a_box(0.0, 0.9), a_box(0.5, 0.6)), found(a_box(0.2, 0.5))]
    lower = [Detections(f.xyxy, f.score * np.float32(0.3), f.class_id) for f in reference]
    assert agreement_ap50(reference, lower, threshold=0.4) == pytest.approx(1.0)


def test_doubtful_boxes_of_the_reference_count_neither_way() -> None:
    """A box that the reference scores just below the threshold is no fault when the candidate scores it more."""
    reference = [found(a_box(0.0, 0.9), a_box(0.5, 0.28))]
    candidate = [found(a_box(0.5, 0.95), a_box(0.0, 0.9))]
    assert agreement_ap50(reference, candidate, threshold=0.3) == pytest.approx(1.0)


def test_invented_boxes_cost() -> None:
    """A box where the reference has nothing at all, scored above the right ones, halves the precision."""
    reference = [found(a_box(0.0, 0.9))]
    candidate = [found(a_box(0.5, 0.95), a_box(0.0, 0.9))]
    assert agreement_ap50(reference, candidate, threshold=0.3) == pytest.approx(0.5)


def test_other_label_is_a_miss() -> None:
    """The right place with another label is not found."""
    assert agreement_ap50([found(a_box(0, 0.9, 1))], [found(a_box(0, 0.9, 2))], threshold=0.3) == 0


def test_stretched_pictures_agree_alike() -> None:
    """IoU is that of the fractions: the same on any aspect."""
    reference = [found((0.0, 0.0, 0.2, 0.2, 0.9, 0))]
    just_half = [found((0.0, 0.0, 0.2, 0.101, 0.9, 0))]
    too_little = [found((0.0, 0.0, 0.2, 0.099, 0.9, 0))]
    assert agreement_ap50(reference, just_half, threshold=0.3) == pytest.approx(1.0)
    assert agreement_ap50(reference, too_little, threshold=0.3) == 0


def test_other_number_of_frames_is_refused() -> None:
    """Two runs over different frames can't be compared."""
    with pytest.raises(ValueError, match="2 frames of the reference, 1"):
        agreement_ap50([found(), found()], [found()], threshold=0.3)
