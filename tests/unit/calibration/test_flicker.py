"""Score shift, label flips and flicker of detections."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.stationary import iou
from calibration.flicker import Moment, flicker, label_flips, score_shift
from calibration.pairs import overlaps
from tests.unit.calibration.detections import a_box, found

corners = st.tuples(*[st.floats(0, 1, width=32)] * 4).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)


@given(st.lists(corners, max_size=4), st.lists(corners, max_size=4))
def test_overlaps_are_the_agents_own_iou(a: list, b: list) -> None:
    """The table of all pairs has what the agent computes for each."""
    table = overlaps(np.array(a, np.float32).reshape(-1, 4), np.array(b, np.float32).reshape(-1, 4))
    assert table.shape == (len(a), len(b))
    for i, first in enumerate(a):
        for j, second in enumerate(b):
            assert table[i, j] == pytest.approx(iou(first, second), abs=1e-4)


def test_score_shift_is_the_mean_over_boxes_of_both() -> None:
    """A box that one of them lacks says nothing about scores."""
    reference = [found(a_box(0.0, 0.9), a_box(0.3, 0.5), a_box(0.6, 0.8)), found()]
    candidate = [found(a_box(0.0, 0.7), a_box(0.3, 0.4)), found(a_box(0.0, 0.9))]
    shift = score_shift(reference, candidate, threshold=0.3)
    assert shift is not None
    assert shift.value == pytest.approx(-0.15)


def test_label_flips_are_boxes_in_place_with_other_labels_only() -> None:
    """One of two boxes has changed its label; one that is gone does not count; a second label is no flip."""
    reference = [found(a_box(0.0, 0.9, 0), a_box(0.3, 0.9, 0), a_box(0.6, 0.9, 0))]
    candidate = [found(a_box(0.0, 0.9, 1), a_box(0.3, 0.5, 0), a_box(0.3, 0.9, 2))]
    flips = label_flips(reference, candidate, threshold=0.3)
    assert flips is not None
    assert flips.value == 0.5


def test_flicker_counts_boxes_without_a_partner_next_to_them() -> None:
    """A box of three that is gone in one frame of four is alone twice: when it goes and when it comes."""
    here, gone = found(a_box(0.0, 0.9), a_box(0.5, 0.9)), found(a_box(0.0, 0.9))
    moments = [Moment(clip, 0.2 * n) for clip in "abcdefg" for n in range(4)]
    assert flicker([here, here, gone, here], moments[:4], threshold=0.3) is None, "too few to say anything"
    seen = flicker([here, here, gone, here] * 7, moments, threshold=0.3)
    assert seen is not None
    assert seen.value == pytest.approx(2 / 10)


def test_flicker_looks_only_at_frames_in_a_row() -> None:
    """Frames of two clips, or seconds apart, say nothing."""
    boxes = [found(a_box(0.0, 0.9)), found(a_box(0.5, 0.9))] * 11
    assert flicker(boxes, [Moment(str(n), 0.2 * n) for n in range(22)], threshold=0.3) is None
    assert flicker(boxes, [Moment("a", 2.0 * n) for n in range(22)], threshold=0.3) is None
    near = flicker(boxes, [Moment("a", 0.2 * n) for n in range(22)], threshold=0.3)
    assert near is not None
    assert near.value == 1.0


def test_no_objects_no_figures() -> None:
    """Empty frames give no figure rather than a perfect one."""
    empty = [found(), found()]
    assert score_shift(empty, empty, threshold=0.3) is None
    assert label_flips(empty, empty, threshold=0.3) is None
