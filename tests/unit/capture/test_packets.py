"""The queue between the thread that reads and the one that decodes."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from agent.capture.packets import MAX_BACKLOG_S, MAX_QUEUED, SETTLE_S, Arrival, PacketQueue
from agent.errors import ServiceAway
from tests.patience import HANGS_S

LIVE, FINITE = SimpleNamespace(live=True), SimpleNamespace(live=False)


def arrival(at_s: float, *, live: bool = True) -> Arrival:
    """Return a packet that came at `at_s`."""
    return Arrival(None, LIVE if live else FINITE, at_s)  # type: ignore[arg-type]


def lag_s(queue: PacketQueue, *, burst: int, frame_s: float, decode_s: float, until_s: float) -> float:
    """Return the age of what a decoder gets at the end, with `burst` packets at once and then an even flow."""
    times_s = [0.0] * burst + [n * frame_s for n in range(int(until_s / frame_s))]
    free_s = age_s = 0.0
    for at_s in times_s:
        queue.put(arrival(at_s))
        while free_s <= at_s and (item := queue.get(0)) is not None:
            age_s = max(free_s, item.arrived_s) - item.arrived_s
            free_s = max(free_s, item.arrived_s) + decode_s
    return age_s


def test_a_live_backlog_is_thrown_away_and_counted() -> None:
    """A decoder that is more than about a second behind gets what is new, not what is old."""
    assert MAX_BACKLOG_S <= 1.0
    queue = PacketQueue()
    queue.put(arrival(0.0))
    queue.get(0)
    first_s = SETTLE_S + 1
    for at_s in (first_s, first_s + 0.5, first_s + MAX_BACKLOG_S, first_s + MAX_BACKLOG_S + 0.5):
        queue.put(arrival(at_s))
    got = queue.get(0)
    assert got is not None
    assert got.arrived_s == first_s + MAX_BACKLOG_S + 0.5
    assert queue.dropped == 3


def test_a_decoder_slower_than_the_stream_lags_a_second_at_most() -> None:
    """30 frames a second into a decoder that manages 20: what it gets is never much older than a second."""
    queue = PacketQueue()
    assert lag_s(queue, burst=0, frame_s=1 / 30, decode_s=1 / 20, until_s=60) <= MAX_BACKLOG_S + 0.1
    assert queue.dropped > 0


@pytest.mark.parametrize("burst", [0, 30, 60])
def test_a_burst_at_the_start_is_decoded(burst: int) -> None:
    """Servers begin with the GOP so far, 2 s at once: a decoder with a little to spare drops none of it."""
    queue = PacketQueue()
    assert lag_s(queue, burst=burst, frame_s=1 / 30, decode_s=1 / 60, until_s=30) < 0.1
    assert queue.dropped == 0


def test_a_live_backlog_is_bounded_in_number() -> None:
    """A flood within a moment is dropped as well."""
    queue = PacketQueue()
    for _ in range(MAX_QUEUED + 1):
        queue.put(arrival(0.0))
    assert queue.dropped == MAX_QUEUED


def test_a_finite_source_waits_for_room() -> None:
    """Nothing of a file is dropped: the reader waits, and goes on when there is room."""
    queue, total = PacketQueue(), MAX_QUEUED + 5
    writer = threading.Thread(
        target=lambda: [queue.put(arrival(n, live=False)) for n in range(total)] and queue.end(), daemon=True
    )
    writer.start()
    got = []
    for _ in range(total):
        item = queue.get(HANGS_S)
        assert item is not None
        got.append(item.arrived_s)
    writer.join(HANGS_S)
    assert got == list(range(total))
    with pytest.raises(EOFError):
        queue.get(0)


def test_the_end_comes_after_what_waits() -> None:
    """What was read before an error is still given out, then the error is raised."""
    queue = PacketQueue()
    queue.put(arrival(1.0))
    queue.end(ServiceAway("gone"))
    assert queue.get(0) is not None
    with pytest.raises(ServiceAway):
        queue.get(0)


def test_close_frees_a_waiting_reader_and_a_waiting_decoder() -> None:
    """Neither side stays blocked in a queue that was closed."""
    full, empty = PacketQueue(), PacketQueue()
    for n in range(MAX_QUEUED):
        full.put(arrival(n, live=False))
    reader = threading.Thread(target=full.put, args=(arrival(0.0, live=False),), daemon=True)
    ended = threading.Event()

    def decode() -> None:
        with pytest.raises(EOFError):
            empty.get(HANGS_S)
        ended.set()

    decoder = threading.Thread(target=decode, daemon=True)
    reader.start()
    decoder.start()
    full.end(discard=True)
    empty.end(discard=True)
    reader.join(HANGS_S)
    decoder.join(HANGS_S)
    assert not reader.is_alive()
    assert ended.is_set()


def test_get_gives_up_after_its_timeout() -> None:
    """A decoder can look after other things when nothing comes."""
    assert PacketQueue().get(0.01) is None


def test_a_consumer_that_catches_up_may_be_behind_for_a_while() -> None:
    """After `settle` a backlog of some seconds is kept; later the usual limit holds again."""
    queue = PacketQueue()
    queue.put(arrival(0.0))
    queue.get(0)
    queue.settle(100.0)
    for at_s in (100.0, 102.0, 104.0):
        queue.put(arrival(at_s))
    assert queue.dropped == 0
    queue.put(arrival(100.0 + SETTLE_S + 1))
    assert queue.dropped == 3
