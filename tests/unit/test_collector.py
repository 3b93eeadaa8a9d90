"""What a subscriber makes of the messages, and what it knows to be missing."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import wire
from agent.collector import Collector, Taken

EVENT: dict[str, Any] = {
    "schema": 1,
    "type": "new",
    "device": "dev1",
    "camera": "yard",
    "label": "person",
    "score": 0.5,
    "top_score": 0.5,
    "box": [0.1, 0.1, 0.2, 0.2],
    "frame_size": [640, 480],
    "zones": [],
    "stationary": False,
    "start_time": "2026-01-01T00:00:00.000Z",
    "end_time": None,
    "time": "2026-01-01T00:00:00.000Z",
    "clock_synced": True,
    "boot_id": "boot",
    "mono_ns": 1,
    "frame": {"seq": 1, "pts_s": 0.1, "age_ms": 1.0},
    "model": {"name": "m", "version": 1, "sha256": "0", "precision": "int8", "backend": "b"},
    "sampling": {"mode": "uniform", "effective_hz": 5.0, "miss_window_s": 0.2},
}


def event(collector: Collector, seq: int, *, epoch: str = "e1", lane: str = "P0", **more: Any) -> Taken:
    """Give the collector one event."""
    payload = {**EVENT, "id": f"dev1/{epoch}/{lane}/{seq}", "event_id": f"{epoch}-{seq}", **more}
    return collector.take("edge/dev1/events/yard", msgspec.json.encode(payload))


def gap(collector: Collector, first: int, last: int, count: int, reason: str = "disk_full") -> Taken:
    """Give the collector one report of a gap in lane P0 of epoch e1."""
    payload = msgspec.json.encode(wire.Gap(1, "e1", "P0", first, last, count, reason))
    return collector.take("edge/dev1/gap", payload)


def birth(
    collector: Collector, epoch: str, before: str = "", *, retained: bool = False, **last: int
) -> Taken:
    """Give the collector the birth of `epoch`, which tells the last numbers of the epoch `before`."""
    previous = [wire.Previous(before, last)] if before else []  # type: ignore[arg-type]
    return named(collector, epoch, previous, retained=retained)


def named(collector: Collector, epoch: str, before: list[wire.Previous], *, retained: bool = False) -> Taken:
    """Give the collector the birth of `epoch`, which names all of `before`."""
    payload = wire.encode_birth(wire.Identity("dev1", "boot"), version="1", epoch=epoch, before=before)
    return collector.take("edge/dev1/status", payload, retained=retained)


def missing(collector: Collector) -> list[tuple[str, int, int, int, bool]]:
    """Return (epoch/lane, first, last, count, tail) of what is missing."""
    return [(f"{m.epoch}/{m.lane}", m.first, m.last, m.count, m.tail) for m in collector.missing()]


def test_each_event_counts_once_and_holes_are_missing() -> None:
    """The same id again is a duplicate; a number that was passed over is missing until it comes."""
    collector = Collector()
    birth(collector, "e1")
    kinds = [event(collector, seq).kind for seq in (1, 2, 2, 5, 7, 5)]
    assert kinds == ["event", "event", "duplicate", "event", "event", "duplicate"]
    assert missing(collector) == [("e1/P0", 3, 4, 2, False), ("e1/P0", 6, 6, 1, False)]
    for seq in (6, 3, 4):
        event(collector, seq)
    assert missing(collector) == []
    assert (collector.totals.events, collector.totals.duplicates, collector.totals.out_of_order) == (7, 2, 3)


def test_who_comes_in_the_middle_misses_nothing_before() -> None:
    """Without the epoch's beginning the lowest number seen is the first; each lane counts for itself."""
    collector = Collector()
    birth(collector, "e1", "e0", P0=100, retained=True)
    event(collector, 500)
    event(collector, 502)
    event(collector, 9, lane="P1")
    assert missing(collector) == [("e1/P0", 501, 501, 1, False)]


def test_the_next_birth_proves_a_tail() -> None:
    """What the next birth says was given out and did not come is missing, as a tail; of the whole epoch if need be."""
    collector = Collector()
    birth(collector, "e1")
    event(collector, 1)
    birth(collector, "e2", "e1", P0=3, P1=2)
    assert missing(collector) == [("e1/P0", 2, 3, 2, True), ("e1/P1", 1, 2, 2, True)]
    for seq, lane in ((2, "P0"), (3, "P0"), (1, "P1"), (2, "P1")):
        event(collector, seq, lane=lane)
    assert missing(collector) == []
    birth(collector, "e4", "e3", P0=2)
    assert missing(collector) == [("e3/P0", 1, 2, 2, True)]


def test_runs_that_found_no_broker_hide_no_tail() -> None:
    """A birth names the epochs before the previous one too; those from before the subscriber miss nothing."""
    collector = Collector()
    history = [wire.Previous("e1", {"P0": 4})]
    named(collector, "e2", history, retained=True)
    event(collector, 1, epoch="e2")
    history = [wire.Previous("e3", {"P0": 2}), wire.Previous("e2", {"P0": 2}), *history]
    named(collector, "e4", history)
    assert missing(collector) == [("e2/P0", 2, 2, 1, True), ("e3/P0", 1, 2, 2, True)]
    for epoch, seq in (("e2", 2), ("e3", 1), ("e3", 2)):
        event(collector, seq, epoch=epoch)
    assert missing(collector) == []


def test_a_birth_told_again_changes_nothing() -> None:
    """After a lost connection the same birth comes again, also as a retained message."""
    collector = Collector()
    birth(collector, "e1")
    event(collector, 1)
    birth(collector, "e1")
    birth(collector, "e1", retained=True)
    event(collector, 2)
    assert missing(collector) == []


def test_gaps_explain_as_many_as_they_count() -> None:
    """A report over 2 to 9 of five messages explains five holes there, wherever they are, and no more."""
    collector = Collector()
    birth(collector, "e1")
    for seq in (1, 4, 10):
        event(collector, seq)
    assert sum(m[3] for m in missing(collector)) == 7
    assert gap(collector, 2, 9, 5).kind == "gap"
    assert gap(collector, 2, 9, 5).kind == "duplicate"
    assert sum(m[3] for m in missing(collector)) == 2
    gap(collector, 5, 9, 2, "rejected")
    assert missing(collector) == []
    assert (collector.totals.gaps, collector.totals.reported) == (2, 7)


def test_an_end_is_final() -> None:
    """News of an event after its end is late; another event's is not."""
    collector = Collector()
    assert not event(collector, 1, event_id="a").late
    assert not event(collector, 3, event_id="a", type="end").late
    assert event(collector, 1, lane="P1", event_id="a", type="update").late
    assert not event(collector, 2, lane="P1", event_id="b", type="update").late
    assert collector.totals.late == 1


def test_what_can_not_be_read_is_counted() -> None:
    """Neither bad JSON, nor a strange id, nor a strange topic ends the collector."""
    collector = Collector()
    assert collector.take("edge/dev1/events/yard", b"{").kind == "unreadable"
    assert collector.take("edge/dev1/gap", b"\xff").kind == "unreadable"
    assert collector.take("x", b"{}").kind == "unreadable"
    assert event(collector, 1, lane="P0/x").kind == "unreadable"
    assert collector.totals.unreadable == 4


@settings(deadline=None)
@given(
    total=st.integers(1, 40),
    lost=st.sets(st.integers(1, 40)),
    told=st.sets(st.integers(1, 40)),
    seed=st.integers(),
)
def test_missing_is_what_was_lost_and_not_told(total: int, lost: set[int], told: set[int], seed: int) -> None:
    """Whatever is lost, repeated or reordered on the way: lost without a gap is what is missing, by number."""
    lost, told = {n for n in lost if n <= total}, {n for n in told if n <= total} & lost
    collector, rng = Collector(), random.Random(seed)
    birth(collector, "e1")
    sent = [n for n in range(1, total + 1) if n not in lost] * 2
    rng.shuffle(sent)
    for seq in sent:
        event(collector, seq)
    for n in told:
        gap(collector, n, n, 1)
    birth(collector, "e2", "e1", P0=total)
    found = {n for m in collector.missing() for n in range(m.first, m.last + 1)}
    assert found == lost - told
    assert collector.totals.duplicates == len(sent) // 2
