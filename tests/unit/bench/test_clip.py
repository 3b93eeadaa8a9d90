"""The clips that are made to measure with."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from agent.bench import clip
from agent.errors import CannotCreate, InputMissing

pytestmark = pytest.mark.skipif("libx264" not in av.codecs_available, reason="PyAV without libx264")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make clips of 12 frames instead of 500, which take seconds."""
    monkeypatch.setattr(clip, "FRAMES", 12)


def test_the_standard_clip_is_what_a_full_hd_camera_sends(tmp_path: Path) -> None:
    """1080p, 25 frames/s, one slice a frame and no B frames, so that it decodes as such a stream does."""
    made = clip.standard_clip(tmp_path / "cache", 1.0)
    facts = clip.facts(made)
    assert (facts.width_px, facts.height_px, facts.codec, facts.frame_rate_hz) == (1920, 1080, "h264", 25.0)
    with av.open(str(made)) as reader:
        pts = [frame.pts * frame.time_base for frame in reader.decode(video=0)]
        assert pts == sorted(pts)
        assert len(pts) == 12
        assert not reader.streams.video[0].codec_context.has_b_frames


def test_a_clip_is_made_once(tmp_path: Path) -> None:
    """And another one for another bit rate; nothing else is left in the cache."""
    made = clip.standard_clip(tmp_path, 1.0)
    before = made.stat().st_mtime_ns
    assert clip.standard_clip(tmp_path, 1.0).stat().st_mtime_ns == before
    other = clip.standard_clip(tmp_path, 2.0)
    assert sorted(tmp_path.iterdir()) == sorted([made, other])


def test_a_clip_that_is_not_whole_is_made_again(tmp_path: Path) -> None:
    """One cut off by a full disk, and an empty one."""
    made = clip.standard_clip(tmp_path, 1.0)
    whole = made.read_bytes()
    for size_bytes in (0, len(whole) // 2, len(whole) * 9 // 10):
        made.write_bytes(whole[:size_bytes])
        assert len(clip.standard_clip(tmp_path, 1.0).read_bytes()) == len(whole)


def test_a_clip_made_in_another_way_is_another_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one of an older version: it is not measured with."""
    made = clip.standard_clip(tmp_path, 1.0)
    monkeypatch.setattr(clip, "GOP", 6)
    assert clip.standard_clip(tmp_path, 1.0) != made


def test_the_still_clip_shows_one_scene_with_noise(tmp_path: Path) -> None:
    """Frames differ, by little."""
    with av.open(str(clip.still_clip(tmp_path, 4.0))) as reader:
        lumas = [frame.to_ndarray()[:1080].astype(float) for frame in reader.decode(video=0)]
    steps = [float(np.abs(a - lumas[0]).mean()) for a in lumas[1:]]
    assert all(0 < step < 4 for step in steps)


def test_a_cache_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    """One line, with the option that helps."""
    (tmp_path / "cache").touch()
    with pytest.raises(CannotCreate, match="--cache"):
        clip.standard_clip(tmp_path / "cache", 1.0)


def test_a_pyav_without_the_encoder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip of one's own still works."""
    monkeypatch.setattr(clip, "_ENCODER", "no-such-encoder")
    with pytest.raises(InputMissing, match="--source"):
        clip.standard_clip(tmp_path, 1.0)


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the XDG base directory specification has it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert clip.default_cache() == tmp_path / "edge-agent" / "bench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert clip.default_cache() == Path.home() / ".cache" / "edge-agent" / "bench"
