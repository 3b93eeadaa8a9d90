"""What a camera's observation means."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.capture import SourceStats
from agent.check import verdict
from agent.config import Sampling


def states(rows) -> list[str]:
    return [row.state for row in rows]


def test_a_camera_in_good_health_is_one_row(camera, observation) -> None:
    """Size, codec, rate, key frames and the cost of decoding, and no advice."""
    rows = verdict.judge(camera(), observation(stats=SourceStats(gaps=1)))
    assert states(rows) == ["ok"]
    assert rows[0].seen == "640x360 h264, 25 fps, a key frame every 1 s, decoding 2.0 ms/frame"


def test_a_4k_stream_is_told_to_use_the_substream(camera, observation) -> None:
    """The advice names both sizes and what the large one costs."""
    rows = verdict.judge(camera(), observation((3840, 2160)))
    assert states(rows) == ["ok", "warning"]
    assert rows[1].fix == "use the camera's substream: 3840x2160 costs about 36 times more than 640x360"


@pytest.mark.parametrize(("decode_ms", "expected"), [(9.0, ["ok"]), (11.0, ["ok", "warning"])])
def test_full_hd_is_a_matter_of_what_it_costs_here(camera, observation, decode_ms, expected) -> None:
    """Up to a quarter of a core for decoding 1080p is fine."""
    assert states(verdict.judge(camera(), observation((1920, 1080), decode_ms=decode_ms))) == expected


def test_a_small_stream_gets_no_advice_about_its_size(camera, observation) -> None:
    """There is nothing smaller to go to, however slow the device."""
    assert states(verdict.judge(camera(), observation(decode_ms=35.0))) == ["ok"]


def test_no_picture_is_a_fault_and_a_late_key_frame_a_warning(camera, observation) -> None:
    """The agent waits a minute for a key frame, so that one that is merely far away does not fail."""
    (row,) = verdict.judge(camera(), observation(None, frames=0))
    assert (row.state, row.seen) == ("fault", "connected, no picture within 10 s")
    stats = SourceStats(waited_for_key_frame=200)
    (row,) = verdict.judge(camera(), observation(None, frames=0, stats=stats))
    assert row.state == "warning"
    assert "200 packets, no key frame" in row.seen
    assert "interval" in row.fix


def test_frames_that_cease_are_a_fault(camera, observation) -> None:
    """A few frames at the start are no camera that works."""
    assert states(verdict.judge(camera(), observation(stopped=True))) == ["fault"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gop_s": 10.0}, "key frames every 10 s"),
        ({"gop_s": None, "watched_s": 8.0}, "key frames more than 8 s apart"),
        ({"stats": SourceStats(undecodable_packets=3, gaps=1)}, "3 bad packets"),
        ({"stats": SourceStats(gaps=9)}, "9 gaps"),
        ({"stats": SourceStats(reconnects=2)}, "lost 2 times"),
        ({"measured_hz": 12.0}, "says 25 fps, gives 12"),
    ],
)
def test_what_works_badly_is_a_warning(camera, observation, changes, words) -> None:
    """Rare key frames, losses, reconnects, a rate below what was declared: each told with a fix."""
    rows = verdict.judge(camera(), observation(**changes))
    assert states(rows) == ["ok", "warning"]
    assert words in rows[1].seen
    assert rows[1].fix


def test_idle_decoding_needs_near_key_frames(camera, observation) -> None:
    """3 s are fine while all is decoded; where only key frames are looked at in idle, that is what is missed."""
    assert states(verdict.judge(camera(), observation(gop_s=3.0))) == ["ok"]
    rows = verdict.judge(camera(decode="keyframes_when_idle"), observation(gop_s=3.0))
    assert states(rows) == ["ok", "warning"]
    assert "while nothing moves" in rows[1].fix


def test_a_clip_is_no_camera(camera, observation) -> None:
    """Long key frame distances that were not seen to end, and losses, are not told of files."""
    stats = SourceStats(gaps=3)
    rows = verdict.judge(camera(), observation(live=False, gop_s=None, watched_s=8.0, stats=stats))
    assert states(rows) == ["ok"]


def test_sampling_faster_than_the_camera_is_told(camera, observation) -> None:
    """Frames that do not exist can't be looked at."""
    given_ = camera(sampling=Sampling(mode="uniform", hz=30.0))
    rows = verdict.judge(given_, observation(measured_hz=20.0, declared_hz=20.0))
    assert states(rows) == ["ok", "warning"]
    assert "asks for 30 frames a second, the camera gives 20" in rows[1].seen


@pytest.mark.parametrize(
    ("sampling", "hz"),
    [
        (Sampling(mode="interval", every_n=5), 5.0),
        (Sampling(mode="uniform", hz=4.0), 4.0),
        (Sampling(mode="uniform", hz=40.0), 25.0),
        (Sampling(mode="motion", min_hz=1.0, max_hz=8.0), 8.0),
    ],
)
def test_what_a_sampling_asks_for(sampling, hz) -> None:
    """At most, of a camera with 25 frames a second."""
    assert verdict.asked_hz(sampling, 25.0) == hz


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.tuples(st.integers(16, 4000), st.integers(16, 4000)).map(
        lambda s: (s[0] // 2 * 2, s[1] // 2 * 2)
    ),
    numbers=st.fixed_dictionaries(
        {
            "frames": st.integers(1, 500),
            "watched_s": st.floats(0, 10),
            "declared_hz": st.floats(0, 240),
            "measured_hz": st.floats(0, 240),
            "gop_s": st.none() | st.floats(0, 10),
            "decode_ms": st.floats(0, 500),
            "live": st.booleans(),
            "stopped": st.booleans(),
            "key_frames_only": st.booleans(),
        }
    ),
)
def test_every_observation_has_a_row_and_every_complaint_a_fix(camera, observation, size, numbers) -> None:
    """Whatever was measured, nothing is raised, and no row but a good one is without a fix."""
    rows = verdict.judge(camera(), observation(size, **numbers))
    assert rows
    assert all(bool(row.fix) == (row.state != "ok") for row in rows)
