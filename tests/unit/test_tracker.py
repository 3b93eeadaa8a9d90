"""Tracking: one id per object from 1 to 30 Hz, across gaps and crossings; sane whatever comes in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agent.config import Detect
from agent.messages import Detections, Tracks
from agent.tracker import Tracker, TrackerOptions, assign, options_for


def found(*rows: tuple[float, ...]) -> Detections:
    """Return detections from rows of centre x, centre y, width, height, score and optionally class id."""
    table = np.array([(*row, 0)[:6] for row in rows], np.float32).reshape(-1, 6)
    low, high = table[:, :2] - table[:, 2:4] / 2, table[:, :2] + table[:, 2:4] / 2
    return Detections(np.concatenate([low, high], axis=1), table[:, 4].copy(), table[:, 5].astype(np.int32))


def person(x: float, y: float = 0.5, score: float = 0.9) -> tuple[float, ...]:
    """Return a row for `found`: someone 0.05 wide and 0.2 high."""
    return x, y, 0.05, 0.2, score


@pytest.mark.parametrize("hz", [1.0, 2.0, 5.0, 10.0, 30.0])
def test_a_walker_keeps_the_id_at_any_rate(hz: float) -> None:
    """At 1 Hz a walker moves by more than the own width between frames, and is still the same."""
    tracker = Tracker()
    ids = [
        tracker.update(found(person(0.1 + 0.08 * k / hz)), k / hz).track_id.tolist()
        for k in range(int(10 * hz))
    ]
    assert ids == [[1]] * len(ids)


@pytest.mark.parametrize("hz", [1.0, 5.0, 10.0])
def test_two_who_cross_keep_their_ids(hz: float) -> None:
    """Two people who pass each other at different depths are not swapped."""
    tracker = Tracker()
    for k in range(int(10 * hz)):
        t = k / hz
        tracks = tracker.update(found(person(0.1 + 0.08 * t), person(0.9 - 0.08 * t, 0.6)), t)
    assert dict(zip(tracks.track_id.tolist(), tracks.xyxy[:, 0] > 0.5, strict=True)) == {1: True, 2: False}


def test_irregular_skips_keep_the_id() -> None:
    """Frames that come when they can are no trouble: time is in seconds."""
    tracker = Tracker()
    times = np.cumsum(np.random.default_rng(3).uniform(0.03, 0.9, 25))
    assert {int(i) for t in times for i in tracker.update(found(person(0.1 + 0.05 * t)), t).track_id} == {1}


def test_a_hidden_walker_coasts_and_is_found_again() -> None:
    """Unseen for a second behind a post, a track goes on, marked as not matched, and keeps its id."""
    tracker = Tracker()
    for k in range(20):
        tracker.update(found(person(0.1 + 0.008 * k)), k / 10)
    for k in range(20, 30):
        tracks = tracker.update(Detections.empty(), k / 10)
        assert tracks.matched.tolist() == [False]
        assert tracks.seen_s.tolist() == [1.9]
    assert abs(float(tracks.xyxy[0, [0, 2]].mean()) - 0.332) < 0.03
    tracks = tracker.update(found(person(0.34)), 3.0)
    assert (tracks.track_id.tolist(), tracks.matched.tolist()) == ([1], [True])
    assert (tracks.start_s.tolist(), tracks.seen_s.tolist()) == ([0.0], [3.0])


def test_a_track_dies_of_age_but_never_of_one_miss() -> None:
    """Unseen for more than max_age_s and two frames a track is gone, and a newcomer gets a new id."""
    tracker = Tracker(TrackerOptions(max_age_s=2.0))
    tracker.update(found(person(0.5)), 0.0)
    assert len(tracker.update(Detections.empty(), 1.0)) == 1
    assert len(tracker.update(Detections.empty(), 2.1)) == 0
    assert tracker.update(found(person(0.5)), 2.2).track_id.tolist() == [2]
    assert len(tracker.update(Detections.empty(), 12.2)) == 1
    assert len(tracker.update(Detections.empty(), 22.2)) == 0


def test_after_a_long_gap_only_what_stayed_is_known() -> None:
    """After a minute without a frame a parked car keeps its id, and no far detection inherits one."""
    tracker = Tracker()
    tracker.update(found(person(0.2), person(0.8)), 0.0)
    assert tracker.update(found(person(0.2), person(0.6)), 60.0).track_id.tolist() == [1, 2, 3]


def test_a_weak_detection_carries_but_starts_nothing() -> None:
    """Scores between low and high keep a track alive (ByteTrack); alone they are nothing."""
    tracker = Tracker()
    assert len(tracker.update(found(person(0.5, score=0.45)), 0.0)) == 0
    tracker.update(found(person(0.5)), 0.1)
    tracks = tracker.update(found(person(0.5, score=0.45)), 0.2)
    assert tracks.matched.tolist() == [True]
    assert tracks.score.tolist() == pytest.approx([0.45])


def test_a_middling_detection_must_be_met_twice() -> None:
    """Between high_score and birth_score a track shows at its second sighting; a lone flash never does."""
    tracker = Tracker()
    assert len(tracker.update(found(person(0.5, score=0.55), person(0.1, score=0.55)), 0.0)) == 0
    tracks = tracker.update(found(person(0.5, score=0.55)), 0.1)
    assert (len(tracks), tracks.start_s.tolist()) == (1, [0.0])
    assert len(tracker.update(found(person(0.1, score=0.55)), 0.2)) == 1


def test_classes_do_not_mix() -> None:
    """A dog where a person was is another track."""
    tracker = Tracker()
    tracker.update(found(person(0.5)), 0.0)
    tracks = tracker.update(found((*person(0.5), 1)), 0.1)
    assert tracks.class_id.tolist() == [0, 1]
    assert tracks.matched.tolist() == [False, True]


def test_who_leaves_the_picture_is_gone_at_once() -> None:
    """A track whose predicted centre is outside does not coast on."""
    tracker = Tracker()
    for k in range(20):
        tracker.update(found(person(0.8 + 0.01 * k)), k / 10)
    assert [len(tracker.update(Detections.empty(), 2.0 + k / 10)) for k in range(4)][-1] == 0


def test_time_that_steps_back() -> None:
    """A small step back is no step; a large one is another recording, and ids are never used again."""
    tracker = Tracker()
    tracker.update(found(person(0.5)), 100.0)
    assert tracker.update(found(person(0.5)), 99.5).seen_s.tolist() == [100.0]
    tracks = tracker.update(found(person(0.5)), 0.0)
    assert (tracks.track_id.tolist(), tracks.seen_s.tolist()) == ([2], [0.0])


def test_a_change_of_aspect_keeps_the_tracks() -> None:
    """A stream that changes its shape keeps its boxes, in fractions of the frame."""
    tracker = Tracker()
    tracker.update(found(person(0.5)), 0.0, aspect=4 / 3)
    tracks = tracker.update(Detections.empty(), 0.1, aspect=16 / 9)
    np.testing.assert_allclose(tracks.xyxy, [[0.475, 0.4, 0.525, 0.6]], atol=1e-6)


def test_options_follow_the_thresholds_of_the_events() -> None:
    """The lowest threshold of any label starts tracks, and hysteresis carries them."""
    options = options_for(Detect(thresholds={"dog": 0.4}, hysteresis=0.1), 0.6)
    assert (options.high_score, options.low_score) == pytest.approx((0.4, 0.3))
    assert options_for(Detect(threshold=0.9, hysteresis=0.5), 0.6).birth_score == 1.0


def test_assign_takes_the_cheapest_first_and_nothing_impossible() -> None:
    """Greedy by cost; infinite pairs stay alone."""
    rows, columns = assign(np.array([[0.2, 0.1, np.inf], [np.inf, 0.3, np.inf]]))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1)]
    assert len(assign(np.zeros((0, 3)))[0]) == 0


def anything(n: int) -> st.SearchStrategy[Detections]:
    """Strategy of n detections with any floats whatever."""
    floats = st.floats(width=32)
    return st.builds(
        Detections,
        hnp.arrays(np.float32, (n, 4), elements=floats | st.floats(-0.5, 1.5, width=32)),
        hnp.arrays(np.float32, (n,), elements=floats | st.floats(0, 1, width=32)),
        hnp.arrays(np.int32, (n,), elements=st.integers(0, 2)),
    )


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 6).flatmap(anything), st.floats(-50, 50) | st.floats(0, 0.5)),
        min_size=1,
        max_size=12,
    )
)
def test_tracks_are_sane_whatever_comes(frames: list[tuple[Detections, float]]) -> None:
    """Ids are unique and only grow, boxes lie in the frame, nothing is NaN, times are ordered."""
    tracker, now_s, known, highest = Tracker(), 0.0, set[int](), 0
    for detections, step_s in frames:
        now_s += step_s
        tracks: Tracks = tracker.update(detections, now_s)
        ids = tracks.track_id.tolist()
        assert len(set(ids)) == len(ids)
        assert all(i > highest or i in known for i in ids)
        known, highest = known | set(ids), max([highest, *ids])
        assert ((tracks.xyxy >= 0) & (tracks.xyxy <= 1)).all()
        assert (tracks.xyxy[:, :2] <= tracks.xyxy[:, 2:]).all()
        assert np.isfinite(tracks.start_s).all()
        assert (tracks.start_s <= tracks.seen_s).all()
        assert tracks.matched.sum() <= len(detections)
