"""The life cycles of events: what is announced, when, and what is not."""

from __future__ import annotations

from collections import defaultdict
from itertools import count, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import Detect, Zone
from agent.events import EventMachine
from agent.messages import Box, Event, Tracks

AT: Box = (0.4, 0.4, 0.5, 0.6)
Row = tuple[int, int, float, Box, bool]


def tracks_of(*rows: Row) -> Tracks:
    """Return tracks from rows of track id, class id, score, box, matched."""
    n = len(rows)
    return Tracks(
        track_id=np.array([row[0] for row in rows], np.int32),
        xyxy=np.array([row[3] for row in rows], np.float32).reshape(n, 4),
        score=np.array([row[2] for row in rows], np.float32),
        class_id=np.array([row[1] for row in rows], np.int32),
        matched=np.array([row[4] for row in rows], np.bool_),
        start_s=np.zeros(n),
        seen_s=np.zeros(n),
    )


def one(score: float = 0.9, box: Box = AT, track_id: int = 1, class_id: int = 0) -> Tracks:
    """Return one matched track."""
    return tracks_of((track_id, class_id, score, box, True))


def at(x: float, y: float = 0.4) -> Box:
    """Return a box 0.1 wide and 0.2 high with its corner at x, y."""
    return x, y, x + 0.1, y + 0.2


NOTHING = tracks_of()


def machine(*, moves: bool = True, **settings_: object) -> EventMachine:
    """Return a machine with a threshold of 0.5 and ids e1, e2, ..."""
    ids = count(1)
    return EventMachine(
        Detect(**settings_),  # type: ignore[arg-type]
        camera="yard",
        labels=("person", "car"),
        default_threshold=0.5,
        new_event_id=lambda: f"e{next(ids)}",
        moves=moves,
    )


def play(events: EventMachine, *frames: tuple[float, Tracks]) -> list[Event]:
    """Return all events of the frames (time, tracks)."""
    return [event for now_s, tracks in frames for event in events.update(tracks, now_s)]


def kinds(events: list[Event]) -> list[str]:
    """Return the types of `events`."""
    return [event.type for event in events]


def test_a_life_from_new_to_end() -> None:
    """New after min_duration_s, end after end_after_s without a sighting, with the times of both."""
    m = machine()
    assert play(m, (10.0, one()), (10.2, one(0.95))) == []
    (new,) = m.update(one(0.9), 10.4)
    assert (new.type, new.event_id, new.camera, new.label) == ("new", "e1", "yard", "person")
    assert (new.start_s, new.time_s, new.end_s, new.reason) == (10.0, 10.4, None, None)
    assert (new.score, new.top_score) == pytest.approx((0.9, 0.95))
    assert new.box == pytest.approx(AT)
    assert play(m, (11.0, NOTHING), (12.3, NOTHING)) == []
    (end,) = m.update(NOTHING, 12.4)
    assert (end.type, end.event_id, end.end_s, end.time_s, end.reason) == ("end", "e1", 10.4, 12.4, "lost")
    assert m.update(NOTHING, 20.0) == []


def test_a_flash_is_no_event() -> None:
    """What is not seen again within min_duration_s is never told."""
    assert play(machine(), (0.0, one()), (0.1, NOTHING), (5.0, NOTHING)) == []


def test_without_a_minimum_the_first_sighting_is_new() -> None:
    """min_duration_s 0 announces at once."""
    assert kinds(machine(min_duration_s=0.0).update(one(), 0.0)) == ["new"]


def test_a_score_that_flickers_is_one_event() -> None:
    """Around the threshold, down to the hysteresis, there is one new and no end."""
    scores = [0.55, 0.45, 0.52, 0.41, 0.45, 0.6, 0.42] * 7
    assert kinds(play(machine(), *((k / 5, one(s)) for k, s in enumerate(scores)))) == ["new"]


def test_below_the_hysteresis_is_not_seen() -> None:
    """A track that the detector hardly believes in any more ends as if it were gone."""
    m = machine()
    play(m, (0.0, one()), (0.5, one()))
    assert kinds(play(m, *((0.5 + k / 5, one(0.35)) for k in range(1, 12)))) == ["end"]


def test_thresholds_per_label() -> None:
    """A label's own threshold goes before the common one, and unwanted labels are not there."""
    m = machine(thresholds={"car": 0.8}, min_duration_s=0.0)
    assert m.update(one(0.7, class_id=1), 0.0) == []
    assert kinds(m.update(one(0.85, class_id=1), 0.1)) == ["new"]
    assert machine(labels=("car",), min_duration_s=0.0).update(one(), 0.0) == []
    assert machine(min_duration_s=0.0).update(one(class_id=9), 0.0)[0].label == "class-9"


def test_a_coasting_track_is_not_a_sighting() -> None:
    """A predicted box keeps nothing alive and moves nothing."""
    m = machine()
    play(m, (0.0, one()), (0.5, one()))
    ghost = tracks_of((1, 0, 0.9, at(0.8), False))
    events = play(m, *((0.5 + k / 2, ghost) for k in range(1, 6)))
    assert kinds(events) == ["end"]
    assert events[0].box == pytest.approx(AT)


def test_updates_come_for_a_reason_and_not_too_often() -> None:
    """A zone change is told, at the earliest update_s after the last message; without a change nothing is."""
    gate = Zone("gate", ((0.6, 0.0), (1.0, 0.0), (1.0, 1.0), (0.6, 1.0)))
    m = machine(zones=(gate,), update_s=5.0)
    play(m, (0.0, one()), (1.0, one()))
    assert play(m, *((k * 1.0, one(box=at(0.42))) for k in range(2, 8))) == []
    (update,) = play(m, (8.0, one(box=at(0.7))), (8.5, one(box=at(0.7))))
    assert (update.type, update.zones, update.time_s) == ("update", ("gate",), 8.0)
    events = play(m, *((8.0 + k, one(box=at(0.4))) for k in range(1, 9)))
    assert [(e.time_s, e.zones) for e in events] == [(13.0, ())]


def test_a_better_look_is_an_update() -> None:
    """A top score that is higher by a tenth is told, a little more is not."""
    m = machine(update_s=1.0)
    play(m, (0.0, one(0.6)), (1.0, one(0.6)))
    assert m.update(one(0.65), 3.0) == []
    (update,) = m.update(one(0.75), 4.0)
    assert (update.type, update.top_score) == ("update", pytest.approx(0.75))


def test_a_walker_is_told_to_be_elsewhere() -> None:
    """Clear of the box that was told last, the new place is an update."""
    m = machine(update_s=1.0)
    play(m, (0.0, one()), (1.0, one()))
    assert m.update(one(box=at(0.45)), 3.0) == []
    assert kinds(m.update(one(box=at(0.51)), 4.0)) == ["update"]


def test_a_short_loss_and_a_new_track_id_keep_the_event() -> None:
    """A track that is lost and born again in its place within end_after_s goes on as the same event."""
    m = machine()
    play(m, (0.0, one()), (0.5, one()))
    assert play(m, (1.0, NOTHING), (2.0, one(track_id=2, box=at(0.41))), (4.0, one(track_id=2))) == []
    assert kinds(play(m, (5.0, NOTHING), (6.0, NOTHING))) == ["end"]


def test_two_in_one_place_are_two_events() -> None:
    """A track beside one that is still there is another object."""
    m = machine(min_duration_s=0.0)
    both = tracks_of((1, 0, 0.9, AT, True), (2, 0, 0.9, at(0.42), True))
    assert kinds(play(m, (0.0, one()), (0.1, both))) == ["new", "new"]
    assert m.counts() == {"person": (2, 2)}


def parked(m: EventMachine, until_s: int = 12) -> list[Event]:
    """Let track 1 stand still up to `until_s`."""
    return play(m, *((float(k), one()) for k in range(until_s + 1)))


def test_stationary_is_told_once() -> None:
    """After stationary_s in its place an object is stationary: one update, and active goes down."""
    m = machine()
    events = parked(m, 60)
    assert [(e.type, e.time_s, e.stationary) for e in events] == [("new", 1.0, False), ("update", 10.0, True)]
    assert m.counts() == {"person": (1, 0)}


def test_a_parked_object_is_not_announced_again() -> None:
    """Lost while still, ended, and found again with a new track: no second new, but it counts."""
    m = machine()
    parked(m)
    assert kinds(play(m, (19.5, NOTHING), (20.0, NOTHING))) == ["end"]
    assert m.counts() == {"person": (0, 0)}
    for life in range(2, 6):
        start_s = life * 100.0
        there = [(start_s + k, one(track_id=life, box=at(0.405))) for k in range(5)]
        assert play(m, *there, (start_s + 4.5, NOTHING)) == []
        assert m.counts() == {"person": (1, 0)}
        assert play(m, (start_s + 10, NOTHING)) == []


def test_a_known_object_that_drives_off_is_news() -> None:
    """What was not announced again is announced when it moves, and ends."""
    m = machine()
    parked(m)
    play(m, (19.5, NOTHING), (20.0, NOTHING), *((100.0 + k, one(track_id=2)) for k in range(5)))
    (new,) = play(m, (105.0, one(track_id=2, box=at(0.6))), (105.2, one(track_id=2, box=at(0.62))))
    assert (new.type, new.event_id, new.stationary) == ("new", "e2", False)
    assert kinds(m.close(106.0, "stopped")) == ["end"]


def test_who_walks_away_leaves_no_memory() -> None:
    """Someone who stood still and left by moving does not hide the next one there."""
    m = machine()
    parked(m)
    play(m, (13.0, one(box=at(0.6))), (14.0, one(box=at(0.8))), (19.5, NOTHING), (20.0, NOTHING))
    assert kinds(play(m, (30.0, one(track_id=2)), (31.0, one(track_id=2)))) == ["new"]


def test_what_can_not_move_is_announced_each_time() -> None:
    """A classifier's box is the whole frame: three visits are three events, none of them stationary."""
    m = machine(moves=False)
    whole = (0.0, 0.0, 1.0, 1.0)
    told = []
    for visit in range(3):
        told += play(m, *((visit * 40.0 + k, one(box=whole, track_id=visit)) for k in range(21)))
        assert m.counts() == {"person": (1, 1)}
        told += play(m, *((visit * 40.0 + k, NOTHING) for k in range(21, 40)))
    assert kinds(told) == ["new", "end"] * 3
    assert not any(event.stationary for event in told)


@pytest.mark.parametrize(
    ("memory_s", "label", "place"), [(60.0, 0, AT), (600.0, 1, AT), (600.0, 0, at(0.48))]
)
def test_another_time_label_or_place_is_announced(memory_s: float, label: int, place: Box) -> None:
    """The memory holds for its time, its label and its place alone."""
    m = machine(stationary_memory_s=memory_s)
    parked(m)
    again = [(100.0 + k, one(track_id=2, class_id=label, box=place)) for k in range(2)]
    assert "new" in kinds(play(m, (19.5, NOTHING), (20.0, NOTHING), *again))


def test_one_bad_box_does_not_make_a_parked_car_move() -> None:
    """A box that jumps once, or is half hidden, changes nothing."""
    m = machine()
    parked(m)
    half = (0.45, 0.4, 0.5, 0.6)
    odd = [(20.0, one(box=at(0.6))), (21.0, one()), *((22.0 + k, one(box=half)) for k in range(9))]
    assert play(m, *odd) == []


def test_close_ends_all_and_remembers() -> None:
    """Close ends each open event once, for the reason given; what stood still is known afterwards."""
    m = machine()
    parked(m)
    (end,) = m.close(12.5, "source ended")
    assert (end.type, end.reason, end.end_s, end.time_s) == ("end", "source ended", 12.0, 12.5)
    assert m.close(13.0, "again") == []
    assert play(m, *((20.0 + k, one()) for k in range(5))) == []


def test_time_that_goes_back_ends_the_recording() -> None:
    """A jump back ends the open events; a small step back is no step."""
    m = machine()
    play(m, (100.0, one()), (101.0, one()))
    assert m.update(one(), 100.5) == []
    (end,) = m.update(one(), 0.0)
    assert (end.type, end.time_s, end.reason) == ("end", 101.0, "time went back")
    (new,) = play(m, (0.2, one()), (0.4, one()))
    assert (new.type, new.start_s) == ("new", 0.0)


def test_a_gap_in_time_alone_ends_nothing_that_is_there() -> None:
    """An engine that was away for an hour and finds the same track goes on; what is gone ends."""
    m = machine(min_duration_s=0.0, stationary_s=1e6)
    play(m, (0.0, tracks_of((1, 0, 0.9, AT, True), (2, 0, 0.9, at(0.7), True))))
    assert m.update(one(), 3600.0) == []
    assert [(e.type, e.event_id) for e in m.update(one(), 3600.1)] == [("end", "e2")]


BOXES = st.sampled_from([AT, at(0.42), at(0.45), at(0.7), (0.0, 0.0, 1.0, 1.0), (0.5, 0.5, 0.5, 0.5)])
ROWS = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 2), st.floats(0, 1, width=32), BOXES, st.booleans()),
    max_size=4,
    unique_by=lambda row: row[0],
)
STEPS = st.sampled_from([0.0, 0.1, 0.1, 0.3, 0.3, 1.0, 3.0, 30.0, -0.2, -100.0])


@settings(max_examples=300, deadline=None)
@given(
    frames=st.lists(st.tuples(STEPS, ROWS), max_size=40),
    min_duration_s=st.sampled_from([0.0, 0.3, 2.0]),
    update_s=st.sampled_from([0.1, 1.0]),
    stationary_s=st.sampled_from([0.2, 5.0]),
)
def test_every_life_is_in_order(
    frames: list[tuple[float, list[Row]]], min_duration_s: float, update_s: float, stationary_s: float
) -> None:
    """Any tracks at any times: one new first, spaced updates, one end last, and nothing too short."""
    zone = Zone("z", ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)))
    m = machine(min_duration_s=min_duration_s, update_s=update_s, stationary_s=stationary_s, zones=(zone,))
    now_s, told = 0.0, list[Event]()
    for step_s, rows in frames:
        now_s += step_s
        told += m.update(tracks_of(*rows), now_s)
        opened = {e.event_id for e in told} - {e.event_id for e in told if e.type == "end"}
        present = sum(there for there, _ in m.counts().values())
        assert present >= len(opened)
        assert all(0 <= active <= there for there, active in m.counts().values())
    told += m.close(now_s, "stopped")
    assert all(state == (0, 0) for state in m.counts().values())
    lives = defaultdict(list)
    for event in told:
        lives[event.event_id].append(event)
    for life in lives.values():
        assert kinds(life) == ["new", *["update"] * (len(life) - 2), "end"]
        new, *updates, end = life
        assert new.time_s - new.start_s >= min_duration_s
        times = [new.time_s, *(e.time_s for e in updates)]
        assert all(b - a >= update_s for a, b in pairwise(times))
        assert end.end_s is not None
        assert times[-1] <= end.end_s <= end.time_s
        assert all(e.top_score >= e.score and e.start_s == new.start_s for e in life)


def test_one_miss_on_a_slow_camera_is_no_end() -> None:
    """Where frames are further apart than end_after_s, a single one without the object does not end it."""
    m = machine()
    play(m, (0.0, one()), (0.5, one()))
    play(m, (10.5, one()))
    assert play(m, (20.5, NOTHING)) == []
    assert m.watchful
    assert play(m, (30.5, one())) == []
    assert kinds(play(m, (40.5, NOTHING), (50.5, NOTHING))) == ["end"]
    assert not m.watchful
