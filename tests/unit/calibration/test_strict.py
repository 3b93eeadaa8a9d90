"""Strict agreement: tells good candidates apart that AP50 calls equal."""

from __future__ import annotations

import numpy as np
import pytest

from agent.messages import Detections
from calibration.agreement import agreement_ap50, strict_agreement


def boxes(shift: float, low: float = 0.2) -> list[Detections]:
    """Return one frame with a sure box and one of a low score, both moved by `shift` of their width."""
    xyxy = np.array([[0.1, 0.1, 0.3, 0.5], [0.6, 0.2, 0.8, 0.6]], np.float32)
    xyxy[:, [0, 2]] += np.float32(0.2 * shift)
    return [Detections(xyxy, np.array([0.9, low], np.float32), np.zeros(2, np.int32))]


def test_looser_boxes_and_lost_low_scores_count() -> None:
    """A box that moves by a tenth, or a weak detection that goes, is a loss to the strict measure alone."""
    exact = boxes(0)
    assert strict_agreement(exact, exact) == pytest.approx(1.0)
    moved, lost = boxes(0.1), [found[:1] for found in exact]
    for other in (moved, lost):
        assert agreement_ap50(exact, other, threshold=0.5) == pytest.approx(1.0)
    assert strict_agreement(exact, moved) < 0.9
    assert strict_agreement(exact, lost) < 0.6
