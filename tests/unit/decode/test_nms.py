"""Suppression against the definition of it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.decode.nms import best, nms
from agent.messages import Detections
from tests.unit.decode.reference import greedy_nms, rows_of


def make(rows):
    """Return Detections of (score, class, box) rows."""
    boxes = np.array([row[2] for row in rows], np.float32).reshape(-1, 4)
    return Detections(
        boxes, np.array([row[0] for row in rows], np.float32), np.array([row[1] for row in rows], np.int32)
    )


# Sixteenths are exact in float32: the slow twin then decides every tie as the fast one does.
sixteenth = st.integers(0, 15).map(lambda i: i / 16)
boxes = st.tuples(sixteenth, sixteenth, st.integers(1, 8), st.integers(1, 8)).map(
    lambda b: (b[0], b[1], b[0] + b[2] / 16, b[1] + b[3] / 16)
)
rows = st.lists(st.tuples(st.integers(1, 16).map(lambda i: i / 16), st.integers(0, 2), boxes), max_size=40)


@given(rows, st.sampled_from([0.0, 0.25, 0.375, 0.53125, 1.0]))
def test_nms_is_the_brute_force(candidates, threshold):
    """Every set of boxes is thinned as one pair at a time would do it, ties by input order."""
    expected = greedy_nms(candidates, threshold)
    found = nms(make(candidates), threshold, top_candidates=40, top_detections=40)
    assert rows_of(found) == expected


def test_classes_do_not_suppress_each_other():
    """Two classes on the very same box both stay."""
    twice = make([(0.9, 0, (0, 0, 0.5, 0.5)), (0.8, 1, (0, 0, 0.5, 0.5)), (0.7, 0, (0, 0, 0.5, 0.5))])
    assert nms(twice, 0.5).class_id.tolist() == [0, 1]


def test_bounds_keep_the_best():
    """Of more boxes than the bounds allow, those of the highest scores go in and come out."""
    n = 500
    x = np.arange(n, dtype=np.float32) * 2
    score = np.random.default_rng(1).permutation(n).astype(np.float32) / n
    apart = Detections(np.stack((x, x, x + 1, x + 1), 1), score, np.zeros(n, np.int32))
    found = nms(apart, 0.5, top_candidates=300, top_detections=100)
    assert found.score.tolist() == sorted(score.tolist(), reverse=True)[:100]
    assert len(nms(apart, 0.5, top_candidates=30)) == 30


def test_equal_scores_keep_their_order():
    """Ties are broken by the row, so the same tensors give the same events everywhere."""
    ties = make([(0.5, i, (i, 0, i + 1, 1)) for i in range(50)])
    assert best(ties, 50).class_id.tolist() == list(range(50))
    assert nms(ties, 0.5).class_id.tolist() == list(range(50))


def test_nothing_in_nothing_out():
    """No boxes give no boxes."""
    assert len(nms(Detections.empty(), 0.5)) == 0
