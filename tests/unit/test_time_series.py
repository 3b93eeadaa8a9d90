"""Sampling, tracking and events under any series of times: nothing breaks, and nothing stays broken."""

from __future__ import annotations

from collections import defaultdict
from itertools import count, pairwise

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture.clock import ClipClock, PtsClock, Steps
from agent.config import Detect, Sampling
from agent.events import EventMachine
from agent.messages import Detections, Event, Frame
from agent.sampling import RateMeter, make_sampler
from agent.tracker import Tracker, options_for

YEAR_S = 365 * 86400.0
STEPS_S = (
    st.sampled_from([0.0, 0.1, 0.1, 1.0, 2.0, -2.0, 1e-9, -1e-9, YEAR_S, -YEAR_S, 1e9, -1e9])
    | st.floats(-10.0, 10.0)
    | st.floats(-1e9, 1e9)
)
SERIES = st.lists(STEPS_S, max_size=40)
MODES = st.sampled_from([
    Sampling(mode="uniform", hz=5), Sampling(mode="uniform", hz=0.5), Sampling(mode="interval", every_n=3),
    Sampling(mode="motion", min_hz=0.5, max_hz=8),
])  # fmt: skip
PERSON = (0.4, 0.3, 0.5, 0.7)


def times(steps_s: list[float]) -> list[float]:
    """Return the times that `steps_s` lead to, from an uptime of a day."""
    return [*np.cumsum([86400.0, *steps_s]).tolist()]


def found(there: bool, *, shift: float = 0.0) -> Detections:
    """Return a person, moved to the right by `shift`, or nobody."""
    if not there:
        return Detections.empty()
    box = np.array([PERSON], np.float32) + np.array([shift, 0, shift, 0], np.float32)
    return Detections(box, np.array([0.9], np.float32), np.array([0], np.int32))


@settings(max_examples=200, deadline=None)
@given(SERIES, MODES, st.integers(0, 255))
def test_a_sampler_never_falls_silent(steps_s: list[float], options: Sampling, grey: int) -> None:
    """Whatever came before: of the 10 frames a second that follow, one is kept within two of its periods."""
    sampler = make_sampler(options)
    series = times(steps_s)
    for time_s in series:
        sampler.keep(time_s, lambda: np.full((16, 16), grey, np.uint8))
    period_s = {"uniform": 1 / options.hz, "interval": options.every_n / 10, "motion": 1 / options.min_hz}
    enough = 2 + int(20 * period_s[options.mode])
    after = [series[-1] + (k + 1) / 10 for k in range(enough)]
    assert any(sampler.keep(time_s, lambda: np.full((16, 16), grey, np.uint8)) for time_s in after)


@settings(max_examples=100, deadline=None)
@given(SERIES, MODES)
def test_what_is_told_of_the_rate_is_a_number(steps_s: list[float], options: Sampling) -> None:
    """The effective rate and the miss window stay finite and are never negative."""
    meter = RateMeter(options)
    for time_s in times(steps_s):
        meter.inferred(time_s, 0.1)
        report = meter.report(10.0)
        assert np.isfinite(report.effective_hz)
        assert report.effective_hz >= 0
        assert report.miss_window_s is not None
        assert 0 < report.miss_window_s < 1e11


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(STEPS_S, st.booleans()), max_size=40))
def test_tracks_and_events_live_through_any_time(frames: list[tuple[float, bool]]) -> None:
    """Every life is one new, its updates and one end, in order; who is seen afterwards counts within 5 s."""
    detect = Detect()
    ids = count(1)
    tracker = Tracker(options_for(detect, 0.5))
    machine = EventMachine(
        detect,
        camera="c",
        labels=("person",),
        default_threshold=0.5,
        new_event_id=lambda: f"e{next(ids)}",
    )
    told: list[Event] = []
    series = times([step_s for step_s, _ in frames])
    for time_s, (_, there) in zip(series, [(0.0, True), *frames], strict=True):
        told += machine.update(tracker.update(found(there), time_s), time_s)
    for k in range(1, 51):
        time_s = series[-1] + k / 10
        told += machine.update(tracker.update(found(True, shift=k / 200), time_s), time_s)
    assert machine.counts()["person"][0] >= 1
    told += machine.close(time_s, "shutdown")
    lives = defaultdict(list)
    for event in told:
        assert np.isfinite([event.start_s, event.time_s]).all()
        lives[event.event_id].append(event)
    for life in lives.values():
        assert [event.type for event in life] == ["new", *["update"] * (len(life) - 2), "end"]
        assert all(a.time_s <= b.time_s for a, b in pairwise(life))
        assert len({event.start_s for event in life}) == 1


@settings(max_examples=150, deadline=None)
@given(SERIES, st.lists(st.floats(0.0, 5.0), min_size=41, max_size=41))
def test_the_clocks_of_the_sources_never_go_back(steps_s: list[float], waits_s: list[float]) -> None:
    """Whatever the PTS do, the time of a frame never decreases, and live it is never later than its arrival."""
    live, clip, steps, arrival_s = PtsClock(), ClipClock(), Steps(), 0.0
    lives, clips = [], []
    for pts_s, wait_s in zip(times(steps_s), waits_s, strict=False):
        arrival_s += wait_s
        step_s = steps.take(pts_s)
        lives.append(live.map(pts_s, arrival_s, usual_s=steps.usual_s))
        clips.append(clip.map(pts_s, step_s=step_s, usual_s=steps.usual_s))
        assert lives[-1] <= arrival_s
    for series in (lives, clips):
        assert np.isfinite(series).all()
        assert all(a <= b for a, b in pairwise(series))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("field", ["pts_s", "time_s", "captured_s"])
def test_a_time_that_is_no_number_is_refused_at_the_edge(field: str, wrong: float) -> None:
    """No frame can be made with it, so that nothing behind has to think of it."""
    good = {"pts_s": 0.0, "time_s": 0.0, "captured_s": 0.0}
    picture = av.VideoFrame(16, 16, "gray")
    Frame("c", 0, **good, picture=picture)
    with pytest.raises(ValueError, match="no number"):
        Frame("c", 0, **(good | {field: wrong}), picture=picture)
