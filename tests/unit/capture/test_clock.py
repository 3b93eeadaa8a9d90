"""PTS to time: properties that hold for any stream, and the jumps that streams make."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.capture.clock import ClipClock, PtsClock, Steps

seconds = st.floats(-1e5, 1e5, allow_nan=False)
delays = st.floats(0, 5, allow_nan=False)


@given(st.lists(st.tuples(seconds, delays), min_size=1))
def test_live_time_is_never_in_the_future_nor_decreases(frames: list[tuple[float, float]]) -> None:
    """Whatever the PTS are, a frame was not captured after it arrived, nor before the one before it."""
    clock, arrived_s, last_s = PtsClock(), 1000.0, float("-inf")
    for pts_s, delay_s in frames:
        arrived_s += delay_s
        mapped_s = clock.map(pts_s, arrived_s)
        assert last_s <= mapped_s <= arrived_s
        last_s = mapped_s


@given(st.lists(st.floats(0, 0.5, allow_nan=False), min_size=2, max_size=200), seconds)
def test_jitter_is_filtered_out(jitter_s: list[float], start_pts_s: float) -> None:
    """The error is at most the least jitter seen so far: after one undelayed frame all are exact."""
    clock, arrived_s, least_s = PtsClock(), 0.0, float("inf")
    for number, late_s in enumerate(jitter_s):
        captured_s = number / 15
        arrived_s = max(arrived_s, captured_s + late_s)
        least_s = min(least_s, arrived_s - captured_s)
        mapped_s = clock.map(start_pts_s + captured_s, arrived_s)
        assert captured_s - 1e-6 <= mapped_s
        assert mapped_s <= captured_s + least_s + 1e-6 or mapped_s == pytest.approx(arrived_s)


@pytest.mark.parametrize("drift", [-200e-6, 200e-6])
def test_drift_of_the_camera_clock_is_followed(drift: float) -> None:
    """A camera clock that is 200 ppm off for an hour (0.72 s) costs no more than the window's share, 6 ms."""
    clock = PtsClock(window_s=30.0)
    for number in range(3600 * 5):
        captured_s = number / 5
        error_s = clock.map(captured_s * (1 + drift), captured_s) - captured_s
        assert abs(error_s) < 0.0065


@pytest.mark.parametrize("jump_s", [-95443.7, -3.0, 3.0, 95443.7])
def test_a_jump_of_the_pts_is_a_new_time_line(jump_s: float) -> None:
    """After a wrap of MPEG-TS (2^33 / 90 kHz = 95443.7 s) or a restarted encoder times go on as before."""
    clock = PtsClock()
    for number in range(200):
        captured_s = number / 10
        pts_s = captured_s + (jump_s if number >= 100 else 0)
        assert clock.map(pts_s, captured_s + 0.1) == pytest.approx(captured_s + 0.1)


@pytest.mark.parametrize("glitch_s", [-0.9, -0.3, 0.3, 0.9, 5.0])
@pytest.mark.parametrize("lasts", [1, 3, 10_000])
def test_a_glitch_of_the_pts_does_not_age_what_follows(glitch_s: float, lasts: int) -> None:
    """One or some PTS off by up to a second, or a step for good: all frames afterwards have their true age."""
    clock, steps = PtsClock(), Steps()
    steps.begin(1 / 15)
    for number in range(400):
        captured_s = number / 15
        pts_s = captured_s + (glitch_s if 100 <= number < 100 + lasts else 0.0)
        steps.take(pts_s)
        mapped_s = clock.map(pts_s, captured_s + 0.05, usual_s=steps.usual_s)
        if not 100 <= number < 101:
            assert mapped_s == pytest.approx(captured_s + 0.05, abs=0.07), number


@given(st.lists(st.tuples(seconds, delays, st.floats(0, 2, allow_nan=False)), min_size=1))
def test_live_time_keeps_its_bounds_with_any_usual_step(frames: list[tuple[float, float, float]]) -> None:
    """Restarts by small steps back neither put a frame in the future nor time in reverse."""
    clock, arrived_s, last_s = PtsClock(), 1000.0, float("-inf")
    for pts_s, delay_s, usual_s in frames:
        arrived_s += delay_s
        mapped_s = clock.map(pts_s, arrived_s, usual_s=usual_s)
        assert last_s <= mapped_s <= arrived_s
        last_s = mapped_s


def test_restart_forgets_the_offset_of_the_connection_before() -> None:
    """Another connection counts its PTS from another zero."""
    clock = PtsClock()
    clock.map(500.0, 10.0)
    clock.restart()
    assert clock.map(500.2, 20.0) == 20.0


def test_steps_count_what_goes_wrong() -> None:
    """One hole, one repeated PTS and one step back are each counted once."""
    steps = Steps()
    steps.begin(0.0)
    for pts_s in (0.0, 0.1, 0.2, 0.3, 0.6, 0.7, 0.7, 0.8, 0.75, 0.85):
        steps.take(pts_s)
    assert (steps.gaps, steps.duplicates, steps.backwards) == (1, 1, 1)
    assert steps.usual_s == pytest.approx(0.1)


def test_a_wrong_declared_rate_makes_no_gaps() -> None:
    """Some containers declare 600 Hz for a clip of 10 Hz: the measured step counts."""
    steps = Steps()
    steps.begin(1 / 600)
    for number in range(30):
        steps.take(number / 10)
    assert steps.gaps == 0
    assert steps.usual_s == pytest.approx(0.1)


def test_a_missing_pts_follows_the_one_before() -> None:
    """Frames without a PTS are laid out at the declared rate."""
    steps = Steps()
    steps.begin(0.04)
    for number in range(3):
        assert steps.next_pts_s() == pytest.approx(number * 0.04)
        steps.take(steps.next_pts_s())


@given(st.lists(seconds, min_size=1))
def test_clip_time_never_decreases(pts: list[float]) -> None:
    """Whatever the PTS of a clip, its time goes forward."""
    times = clip_times(pts)
    assert all(a <= b for a, b in itertools.pairwise(times))


def test_clip_time_is_the_pts_where_they_behave() -> None:
    """Uneven and negative PTS are taken as they are: one clip gives the same events everywhere."""
    pts = [-1.0, -0.9, -0.2, 0.0, 0.04, 7.0, 7.1]
    assert clip_times(pts) == pts


def test_a_jump_within_a_clip_goes_on_after_one_usual_step() -> None:
    """A cut-together recording does not stand still for the length of the jump, nor wait for a day."""
    pts = [0.0, 0.1, 0.2, 0.3, 0.4, 50000.0, 50000.1, 3.0, 3.1]
    assert clip_times(pts) == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


def test_a_time_lapse_is_no_series_of_jumps() -> None:
    """A frame a minute is the usual step of such a clip."""
    pts = [60.0 * n for n in range(10)]
    assert clip_times(pts, declared_s=60.0) == pts


def clip_times(pts: list[float], declared_s: float = 0.1) -> list[float]:
    """Return the clip times of `pts`."""
    clock, steps = ClipClock(), Steps()
    steps.begin(declared_s)
    return [clock.map(p, step_s=steps.take(p), usual_s=steps.usual_s) for p in pts]


def jumps(*pts_and_arrivals: tuple[float, float]) -> int:
    """Return how many jumps a clock sees after 10 s of a sound stream at 10 Hz; arrivals count from its end."""
    clock = PtsClock()
    for number in range(100):
        clock.map(50 + number / 10, number / 10 + 0.1)
    for pts_s, arrival_s in pts_and_arrivals:
        clock.map(60 + pts_s, 10.1 + arrival_s)
    return clock.jumps


def test_a_sound_stream_a_stall_and_a_burst_are_no_jumps() -> None:
    """Pictures that come late, all at once, or not at all for a while have PTS that a clock can give."""
    assert jumps((0.0, 0.0), (0.1, 0.1)) == 0
    assert jumps((30.0, 30.0), (30.1, 30.1)) == 0, "nothing for half a minute"
    assert jumps((0.1, 8.0), (4.0, 8.0), (8.0, 8.1)) == 0, "held up for 8 s, then all at once"
    assert jumps((0.4, 0.1), (0.2, 0.2), (0.1, 0.3)) == 0, "some disorder"


@pytest.mark.parametrize("jump_s", [-95443.7, -3.0, 3.0, 95443.7])
def test_a_jump_is_counted_once(jump_s: float) -> None:
    """Back or ahead, for good; and there and back are two."""
    after = [(jump_s + n / 10, n / 10) for n in range(50)]
    assert jumps(*after) == 1
    assert jumps((jump_s, 0.0), (0.1, 4.0), (0.2, 4.1)) in (1, 2)


def test_a_connection_may_settle() -> None:
    """What a server does to its timestamps in the first seconds is no jump."""
    clock = PtsClock()
    for pts_s, arrival_s in ((0.0, 0.0), (3600.0, 0.1), (3600.1, 0.2), (5.0, 0.3)):
        clock.map(pts_s, arrival_s)
    assert clock.jumps == 0
