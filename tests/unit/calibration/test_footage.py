"""Which frames are measured on."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from calibration.footage import BURST, Footage
from tests.unit.calibration.colours import write_pictures
from tests.unit.capture.clips import even, write_clip


def times_s(footage: Footage) -> dict[str, list[float]]:
    """Return the times of the frames of each clip."""
    found: dict[str, list[float]] = {}
    for clip, frame in footage.frames():
        found.setdefault(clip, []).append(frame.pts_s)
    return found


def test_a_long_clip_is_seen_in_bursts_all_over_it(tmp_path: Path) -> None:
    """Of 60 s, 40 frames are four bursts of ten, 0.2 s apart in each, evenly spread."""
    write_clip(tmp_path / "long.mp4", even(600))
    (seen,) = times_s(Footage(tmp_path, 40)).values()
    steps = [round(b - a, 3) for a, b in itertools.pairwise(seen)]
    assert len(seen) == 40
    assert steps.count(0.2) == 4 * (BURST - 1)
    assert [n + 1 for n, step in enumerate(steps) if step > 1] == [10, 20, 30]
    assert seen[30] == pytest.approx(45.0, abs=0.5)


def test_a_short_clip_is_seen_whole(tmp_path: Path) -> None:
    """When there is less than asked for, every look at it is taken."""
    write_clip(tmp_path / "short.mp4", even(30))
    (seen,) = times_s(Footage(tmp_path, 300)).values()
    assert seen == pytest.approx([0.2 * n for n in range(15)], abs=1e-3)


def test_clips_share_the_frames_and_images_are_all_taken(tmp_path: Path) -> None:
    """Two clips get half each; images count extra, each as a clip of its own."""
    write_pictures(tmp_path / "stills", each=2)
    for name, frames in (("a", 300), ("b", 310)):
        write_clip(tmp_path / f"{name}.mp4", even(frames))
    footage = Footage(tmp_path, 40)
    seen = times_s(footage)
    assert {name: len(times) for name, times in seen.items() if name.endswith("mp4")} == {
        "a.mp4": 20,
        "b.mp4": 20,
    }
    assert sum(map(len, seen.values())) == footage.total() == 46


def test_same_files_same_frames(tmp_path: Path) -> None:
    """Nothing is drawn by lot."""
    write_clip(tmp_path / "a.mp4", even(200))
    assert times_s(Footage(tmp_path, 20)) == times_s(Footage(tmp_path, 20))
