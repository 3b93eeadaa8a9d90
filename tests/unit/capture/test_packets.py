"""The queue between the thread that reads and the one that decodes."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from agent.capture.packets import MAX_BACKLOG_S, MAX_QUEUED, Arrival, PacketQueue
from agent.errors import ServiceAway


def arrival(at_s: float, *, live: bool = True) -> Arrival:
    """Return a packet that came at `at_s`."""
    return Arrival(None, SimpleNamespace(live=live), at_s)  # type: ignore[arg-type]


def test_a_live_backlog_is_thrown_away_and_counted() -> None:
    """A decoder that is seconds behind gets what is new, not what is old."""
    queue = PacketQueue()
    for at_s in (0.0, 1.0, MAX_BACKLOG_S, MAX_BACKLOG_S + 0.5):
        queue.put(arrival(at_s))
    got = queue.get(0)
    assert got is not None
    assert got.arrived_s == MAX_BACKLOG_S + 0.5
    assert queue.dropped == 3


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
        item = queue.get(10)
        assert item is not None
        got.append(item.arrived_s)
    writer.join(10)
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
            empty.get(30)
        ended.set()

    decoder = threading.Thread(target=decode, daemon=True)
    reader.start()
    decoder.start()
    full.end(discard=True)
    empty.end(discard=True)
    reader.join(5)
    decoder.join(5)
    assert not reader.is_alive()
    assert ended.is_set()


def test_get_gives_up_after_its_timeout() -> None:
    """A decoder can look after other things when nothing comes."""
    assert PacketQueue().get(0.01) is None
