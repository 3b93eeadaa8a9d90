"""Classification: probabilities, logits, quantized scores."""

from __future__ import annotations

import numpy as np
import pytest

from agent.decode import make_decoder
from agent.errors import BadData


def test_probabilities_become_full_frame_detections(bundle, spec):
    """What scores comes out by score, with the box of the whole input."""
    scores = np.array([[0.1, 0.6, 0.3]], np.float32)
    found = make_decoder(bundle("classification"), (spec(scores),), min_score=0.2)([scores])
    assert found.class_id.tolist() == [1, 2]
    assert found.xyxy.tolist() == [[0, 0, 1, 1]] * 2


def test_logits_go_through_softmax(bundle, spec):
    """Logits become probabilities that sum to one, also where exp would overflow."""
    logits = np.array([[1000, 999, -1000]], np.float32)
    made = bundle("classification", activation="softmax")
    found = make_decoder(made, (spec(logits),), min_score=0.05)([logits])
    assert found.score.tolist() == pytest.approx([0.7311, 0.2689], abs=1e-3)


def test_five_at_most(bundle, spec):
    """A flat answer over many classes is cut to five."""
    stored = np.full((1, 50), 100, np.uint8)
    found = make_decoder(bundle("classification", 50), (spec(stored, 1 / 256),), min_score=0.05)([stored])
    assert found.class_id.tolist() == [0, 1, 2, 3, 4]
    assert found.score[0] == pytest.approx(100 / 256)


def test_misfits_are_named(bundle, spec):
    """As many numbers as labels, or the error says both."""
    with pytest.raises(BadData, match=r"expects one output of \[1, 3\]: \[1, 4\]"):
        make_decoder(bundle("classification"), (spec(np.zeros((1, 4), np.float32)),), min_score=0.2)
