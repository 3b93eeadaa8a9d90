"""MOTChallenge lines."""

from __future__ import annotations

import io

import numpy as np

from agent.messages import Tracks
from agent.motchallenge import MotWriter


def test_lines_are_pixels_of_matched_tracks_from_frame_one() -> None:
    """Frame = seq + 1, pixels, and no line for a coasting track."""
    tracks = Tracks(
        track_id=np.array([7, 8], np.int32),
        xyxy=np.array([[0.25, 0.5, 0.5, 1.0], [0.0, 0.0, 0.1, 0.1]], np.float32),
        score=np.array([0.875, 0.5], np.float32),
        class_id=np.zeros(2, np.int32),
        matched=np.array([True, False]),
        start_s=np.zeros(2),
        seen_s=np.zeros(2),
    )
    file = io.StringIO()
    writer = MotWriter(file)
    writer.write(0, tracks, (768, 576))
    writer.write(9, tracks, (100, 100))
    assert file.getvalue() == (
        "1,7,192.00,288.00,192.00,288.00,0.8750,-1,-1,-1\n10,7,25.00,50.00,25.00,50.00,0.8750,-1,-1,-1\n"
    )
