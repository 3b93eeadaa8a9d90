"""A clip's first frames, and a camera made of a clip."""

from __future__ import annotations

import threading
import time
from itertools import islice, pairwise
from pathlib import Path

import pytest

from agent.bench.clip import own_clip
from agent.bench.sources import FirstFrames, LoopedCamera
from agent.errors import AgentError, BadData, InputMissing, UsageError
from tests.unit.capture.clips import even, write_clip


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Return a clip of 12 frames."""
    return write_clip(tmp_path / "clip.mp4", even(12))


@pytest.mark.parametrize(("count", "expected"), [(5, 5), (12, 12), (99, 12)])
def test_only_the_first_frames_come(clip: Path, count: int, expected: int) -> None:
    """No more than the clip has, and each timed."""
    source = FirstFrames(clip, count, pace="fastest")
    source.open()
    assert [frame.seq for frame in source.frames()] == list(range(expected))
    assert len(source.took_s) == expected
    assert source.frame_count == expected


def test_the_measured_part_begins_with_the_frame_asked_for(clip: Path) -> None:
    """Once, just before it is handed out."""
    begun: list[int] = []
    seen: list[int] = []
    source = FirstFrames(clip, 9, pace="fastest", settle=4, begun=lambda: begun.append(len(seen)))
    source.open()
    for frame in source.frames():
        seen += [frame.seq]
    assert begun == [4]


def test_a_camera_shows_its_clip_again_and_again_with_ever_later_times(clip: Path) -> None:
    """30 frames of a clip of 12, numbered on, 1 ms apart or late."""
    camera = LoopedCamera(clip, 1000.0)
    camera.open()
    frames = list(islice(camera.frames(), 30))
    camera.close()
    assert [frame.seq for frame in frames] == list(range(30))
    times_s = [frame.time_s for frame in frames]
    assert all(later > earlier for earlier, later in pairwise(times_s))


def test_a_camera_keeps_its_rate(clip: Path) -> None:
    """11 frames at 50 a second take 0.2 s at least."""
    camera = LoopedCamera(clip, 50.0)
    begin_s = time.monotonic()
    frames = list(islice(camera.frames(), 11))
    assert time.monotonic() - begin_s >= 0.195
    assert all(frame.captured_s <= time.monotonic() for frame in frames)


def test_a_camera_ends_soon_when_it_is_closed(clip: Path) -> None:
    """Even while it waits for a frame that is due in an hour."""
    camera = LoopedCamera(clip, 1 / 3600)
    frames = camera.frames()
    next(frames)
    threading.Timer(0.05, camera.close).start()
    assert list(frames) == []


@pytest.mark.parametrize("form", ["{}", "file:{}", "file://{}"])
def test_a_clip_of_ones_own_may_be_a_path_or_a_file_url(clip: Path, form: str) -> None:
    """All are the same file."""
    assert own_clip(form.format(clip)) == clip


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("rtsp://user:hunter2@127.0.0.1/x", UsageError),
        ("http://127.0.0.1/clip.mp4", UsageError),
        ("no/such.mp4", InputMissing),
        ("v4l2:/dev/video0", AgentError),
        ("{text}", BadData),
        ("{folder}", BadData),
    ],
)
def test_what_is_no_file_or_no_video_is_refused(tmp_path: Path, source: str, error: type[AgentError]) -> None:
    """With the product's errors, and without the password."""
    text = tmp_path / "text.mp4"
    text.write_text("no video at all\n" * 100)
    with pytest.raises(error) as caught:
        own_clip(source.format(text=text, folder=tmp_path))
    assert "hunter2" not in str(caught.value)
