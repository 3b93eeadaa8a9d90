"""What a run that was killed left open is closed by the next, once, and never by a wrong device."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent import leftover, wire
from agent.filesink import FileTransport
from agent.outbox.ledger import Lane
from agent.outbox.outbox import Note, Outbox
from agent.publisher.publisher import Publisher
from agent.topics import Topics
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator

IDENTITY = wire.Identity("pi", "this-boot")
TOPICS = Topics.of("pi")
UTC = wire.TimeBase(1_796_000_000.0, synced=True)
OPEN = wire.EventMessage(
    schema=1,
    id="pi/epoch/P0/1",
    type="new",
    event_id="epoch-yard-1",
    device="pi",
    camera="yard",
    label="person",
    score=0.9,
    top_score=0.9,
    box=(0.1, 0.1, 0.2, 0.2),
    frame_size=(640, 480),
    zones=(),
    stationary=False,
    start_time="2026-11-22T08:00:00.000Z",
    end_time=None,
    time="2026-11-22T08:00:01.000Z",
    clock_synced=True,
    boot_id="other-boot",
    mono_ns=1,
    frame=wire.FrameInfo(1, 0.1, 20.0),
    model=wire.Model("m", 1, "0" * 64, "int8", "litert"),
    sampling=wire.Sampling("interval", 5.0, 0.2),
)


@contextmanager
def _outbox(folder: Path) -> Iterator[tuple[Outbox, Publisher]]:
    with Outbox(folder / "outbox.db", device="pi", gap_topic=TOPICS.gap) as outbox:
        publisher = Publisher(outbox, FileTransport(folder / "out.jsonl"))
        try:
            yield outbox, publisher
        finally:
            publisher.stop()


def _leave(folder: Path, key: str, payload: bytes) -> None:
    """Be a run that committed a message with a note and was killed."""
    with _outbox(folder) as (outbox, _):
        outbox.put(Lane.P0, TOPICS.events("yard"), lambda _: payload, note=Note(key, keep=True))
        assert outbox.flush(HANGS_S)


def _settle(folder: Path, alive_s: float = 0.0) -> tuple[list[dict[str, Any]], set[str]]:
    """Be the next run; return the ends it queued, and the notes it found."""
    with _outbox(folder) as (outbox, publisher):
        leftover.settle(outbox, publisher, topics=TOPICS, identity=IDENTITY, utc=UTC, alive_s=alive_s)
        assert outbox.flush(HANGS_S)
        ends = [m.payload for m in outbox.take(100) if b'"reason":"restart"' in m.payload]
        outbox.release_all()
        return [msgspec.json.decode(payload) for payload in ends], set(outbox.left)


def test_an_open_event_is_ended_once(tmp_path: Path) -> None:
    """The end has its event's facts, ends it when it was last heard of, and leaves nothing to end."""
    key = leftover.event_note(OPEN.event_id)
    _leave(tmp_path, key, msgspec.json.encode(OPEN))
    [end], left = _settle(tmp_path)
    assert key in left
    assert (end["type"], end["event_id"], end["camera"]) == ("end", OPEN.event_id, "yard")
    assert (end["start_time"], end["end_time"]) == (OPEN.start_time, OPEN.time)
    assert end["boot_id"] == "this-boot"
    assert end["id"] != OPEN.id
    ends, left = _settle(tmp_path)
    assert [row["id"] for row in ends] == [end["id"]]
    assert left == {leftover.state_note(TOPICS.state("yard", "person"))}


def test_times_before_the_clock_was_set_are_corrected(tmp_path: Path) -> None:
    """An event of this boot that began on a clock ten years behind ends on the clock that was set since."""
    mono_ns = round(time.monotonic() * 1e9)
    true_s = UTC.utc_offset_s + mono_ns / 1e9
    wrong = {
        "start_time": wire.rfc3339(true_s - 3.2e8 - 60),
        "time": wire.rfc3339(true_s - 3.2e8),
        "mono_ns": mono_ns,
        "frame": wire.FrameInfo(1, 0.1, 0.0),
    }
    old = msgspec.structs.replace(OPEN, **wrong, boot_id=IDENTITY.boot_id, clock_synced=False)
    _leave(tmp_path, leftover.event_note(OPEN.event_id), msgspec.json.encode(old))
    [end], _ = _settle(tmp_path)
    assert end["clock_synced"]
    begin, end_s = (datetime.fromisoformat(end[key][:-1] + "+00:00") for key in ("start_time", "end_time"))
    assert abs(begin.timestamp() - (true_s - 60)) < 0.01
    assert begin < end_s


def test_an_open_event_ends_at_the_last_sign_of_life(tmp_path: Path) -> None:
    """It was still open when the outbox was written last; but a clock that ran ahead is not believed."""
    for wrote_s, end_time in ((1_795_000_000.0, "2026-11-18T11:06:40.000Z"), (1e10, None)):
        folder = tmp_path / str(wrote_s)
        old = msgspec.structs.replace(OPEN, time="2026-11-01T00:00:00.000Z")
        _leave(folder, leftover.event_note(OPEN.event_id), msgspec.json.encode(old))
        os.utime(folder / "outbox.db", (wrote_s, wrote_s))
        [end], _ = _settle(folder, alive_s=leftover.last_written_s(folder / "outbox.db"))
        assert end["end_time"] == (end_time or end["time"])


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff"])
def test_a_note_that_is_no_event_is_dropped(payload: bytes, tmp_path: Path) -> None:
    """What can't be read is told and forgotten: it must not end every start from now on."""
    _leave(tmp_path, leftover.event_note("broken"), payload)
    assert _settle(tmp_path)[0] == []
    assert _settle(tmp_path)[1] == set()


def test_counts_of_another_device_are_left_alone(tmp_path: Path) -> None:
    """After a change of name the old topics may not even be ours to write."""
    other = leftover.state_note(Topics.of("other").state("yard", "person"))
    with _outbox(tmp_path) as (outbox, _):
        outbox.note(other, b"{}")
        assert outbox.flush(HANGS_S)
    with _outbox(tmp_path) as (outbox, publisher):
        leftover.settle(outbox, publisher, topics=TOPICS, identity=IDENTITY, utc=UTC)
        publisher.start()
        assert publisher.drain(HANGS_S)
    out = tmp_path / "out.jsonl"
    assert not out.exists() or b"other" not in out.read_bytes()
