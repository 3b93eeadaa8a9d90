"""A source over whole pictures: reopening, the newest wins, ends and errors."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from typing import Any

import av
import pytest

from agent.capture import SourceStats, StreamOptions
from agent.capture.grabbing import GrabSource
from agent.capture.handover import Grab, HandOver
from agent.errors import AgentError, BadData, ServiceAway, UsageError
from tests.patience import HANGS_S

OPTIONS = StreamOptions(backoff_first_s=0.01, backoff_max_s=0.05, open_timeout_s=HANGS_S, stall_timeout_s=0.3)
HASTY = replace(OPTIONS, open_timeout_s=1.0)


class Scripted:
    """A Grabber that does what its script says: a number is a PTS, an exception is raised, None is silence."""

    frame_rate_hz = 0.0

    def __init__(self, script: Iterable[Any], *, live: bool = True) -> None:
        self._script, self.live = iter(script), live
        self.closed = 0

    def grab(self, timeout_s: float) -> Grab | None:
        """Do the next thing of the script; silence after its end."""
        step = next(self._script, None)
        if isinstance(step, BaseException):
            raise step
        if step is None:
            time.sleep(min(timeout_s, 0.02))
            return None
        if self.live:
            time.sleep(0.01)
        return Grab(av.VideoFrame(16, 16, "gray"), float(step), time.monotonic())

    def close(self) -> None:
        """Count it."""
        self.closed += 1


def source_of(
    *grabbers: Scripted | AgentError, pace: Any = "realtime", options: StreamOptions = OPTIONS, **more: Any
) -> GrabSource:
    """Return a source that opens these, one after the other."""
    turns = iter(grabbers)

    def connect(stats: SourceStats, stopped: Callable[[], bool]) -> Scripted:
        grabber = next(turns)
        if isinstance(grabber, AgentError):
            raise grabber
        return grabber

    return GrabSource("x://bob:secret@cam", connect, camera="front", pace=pace, options=options, **more)


def test_a_lost_camera_is_opened_again(caplog: pytest.LogCaptureFixture) -> None:
    """After errors, an end and refusals frames go on, numbered on; one log line each, no password."""
    first, second = Scripted([0, 1, ServiceAway("unplugged")]), Scripted([0, EOFError()])
    third, away = Scripted(itertools.count()), ServiceAway("no such camera")
    with (
        caplog.at_level(logging.INFO),
        closing(source_of(first, away, away, second, third)) as source,
    ):
        source.open()
        seen: dict[int, float] = {}
        for frame in source.frames():
            seen[frame.seq] = frame.pts_s
            if source.stats.reconnects == 2 and frame.pts_s >= 2:
                break
    assert list(seen) == list(range(len(seen)))
    assert source.stats.reconnects == 2
    assert [g.closed for g in (first, second, third)] == [1, 1, 1]
    assert [r.message.split(": ", 1)[1] for r in caplog.records if r.levelno >= logging.WARNING] == [
        "lost: unplugged",
        "still away: no such camera",
        "back, attempt 3",
        "lost: ended by the camera: x://***@cam",
        "back, attempt 1",
    ]
    assert "secret" not in caplog.text


def test_a_device_that_is_opened_again_has_a_clock_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its timestamps begin anew, which is no jump."""
    monkeypatch.setattr("agent.capture.clock.SETTLED_S", 0.0)
    first = Scripted([*(100 + n / 100 for n in range(30)), ServiceAway("unplugged")])
    with closing(source_of(first, Scripted([n / 100 for n in range(300)]))) as source:
        source.open()
        for frame in source.frames():
            if 0.1 < frame.pts_s < 100:
                break
    assert (source.stats.reconnects, source.stats.clock_jumps, source.stats.pts_backwards) == (1, 0, 0)


def test_silence_is_a_stall() -> None:
    """A camera that says nothing for the stall timeout is closed and opened again."""
    silent = Scripted([0])
    with closing(source_of(silent, Scripted(itertools.count()))) as source:
        source.open()
        list(itertools.islice(source.frames(), 3))
        assert (source.stats.stalls, source.stats.reconnects, silent.closed) == (1, 1, 1)


def test_a_camera_that_never_gives_a_picture_does_not_open() -> None:
    """The error comes from `open()`, after its timeout."""
    source = source_of(Scripted([]), options=HASTY)
    with pytest.raises(ServiceAway, match=r"no (frame for|answer within) 1 s.*check the camera"):
        source.open()


def test_an_open_that_hangs_ends() -> None:
    """A driver that never answers holds its thread, not `open()` nor `close()`."""
    released = threading.Event()

    def connect(stats: SourceStats, stopped: Callable[[], bool]) -> Scripted:
        released.wait(HANGS_S)
        return Scripted([])

    source = GrabSource("x:", connect, camera="front", pace="realtime", options=HASTY)
    with pytest.raises(ServiceAway, match="no answer within 1 s"):
        source.open()
    released.set()


def test_close_ends_open() -> None:
    """`open()` raises when another thread closes, not when its timeout is over."""
    source = source_of(Scripted([]))
    threading.Timer(0.1, source.close).start()
    with pytest.raises(ServiceAway, match="closed while opening"):
        source.open()


def test_a_fault_at_the_start_is_the_callers() -> None:
    """Nothing is tried again before it worked once."""
    with pytest.raises(BadData, match="not a capture device"):
        source_of(BadData("not a capture device")).open()


@pytest.mark.parametrize("pace", ["realtime", "fastest"])
def test_a_clip_is_whole_and_ends(pace: Any) -> None:
    """Nothing is dropped however slow the consumer is, and the end is the end."""
    clip = Scripted([*range(20), EOFError()], live=False)
    with closing(source_of(clip, pace=pace)) as source:
        source.open()
        frames = []
        for frame in source.frames():
            time.sleep(0.002)
            frames.append(frame)
    assert [f.pts_s for f in frames] == list(range(20))
    assert source.stats.late_packets == 0
    assert clip.closed == 1
    if pace == "fastest":
        assert [f.time_s for f in frames] == list(range(20))


def test_an_error_within_a_clip_is_raised() -> None:
    """What has an end is not opened again."""
    with closing(source_of(Scripted([0, BadData("torn")], live=False))) as source:
        source.open()
        with pytest.raises(BadData, match="torn"):
            list(source.frames())


def test_an_empty_clip() -> None:
    """An end before the first picture is an error."""
    with pytest.raises(BadData, match="no frame came"):
        source_of(Scripted([EOFError()], live=False)).open()


def test_fastest_needs_an_end() -> None:
    """A camera can't be read faster than it films."""
    with pytest.raises(UsageError, match="needs a file"):
        source_of(Scripted([0]), pace="fastest").open()


def test_the_newest_wins() -> None:
    """A live picture that waits gives way, and is counted."""
    stats = SourceStats()
    slot = HandOver(stats)
    grabs = [Grab(av.VideoFrame(16, 16, "gray"), float(n)) for n in range(3)]
    for grab in grabs:
        slot.put(grab, replace=True)
    assert slot.take(0.0) is grabs[2]
    assert slot.take(0.0) is None
    assert stats.late_packets == 2


def test_a_driver_that_hangs_while_it_runs_is_told() -> None:
    """A grab that never returns ends `frames()` with a fault, so that someone hears of it."""
    let_go = threading.Event()

    class Hanging(Scripted):
        def grab(self, timeout_s: float) -> Grab | None:
            if self._script.__length_hint__() == 0:
                assert let_go.wait(HANGS_S)
                return None
            return super().grab(timeout_s)

    with closing(source_of(Hanging([0, 1]), options=replace(HASTY, open_timeout_s=3.0))) as source:
        source.open()
        with pytest.raises(ServiceAway, match="does not answer"):
            list(source.frames())
        assert source.stats.stalls == 1
        assert not source.released
        let_go.set()


def test_what_the_source_does_is_told() -> None:
    """Connecting, up, and why it tries again: after silence, and after an end."""
    turns = iter([Scripted([0]), Scripted([1, EOFError()]), Scripted(itertools.count())])
    seen: list[tuple[str, str]] = []

    def connect(stats: SourceStats, stopped: Callable[[], bool]) -> Scripted:
        seen.append((stats.link.kind, stats.link.detail))
        return next(turns)

    with closing(GrabSource("x:", connect, camera="front", pace="realtime", options=OPTIONS)) as source:
        source.open()
        assert source.stats.link.kind == "up"
        for _ in source.frames():
            if source.stats.reconnects == 2:
                break
        assert source.stats.link.kind == "up"
    assert seen == [("connecting", ""), ("silent", "no frame for 0.3 s"), ("lost", "ended by the camera")]


def test_a_clock_that_jumps_is_counted() -> None:
    """A driver whose timestamps go back for good, once its connection has settled."""
    now_s = itertools.count(0.0, 0.5)
    script = Scripted([*(number / 2 for number in range(20, 40)), *(number / 2 for number in range(20))])
    with closing(source_of(script, now=lambda: next(now_s))) as source:
        source.open()
        for frame in source.frames():
            if frame.pts_s < 9.5:
                break
        assert source.stats.clock_jumps == 1
        assert source.stats.pts_backwards == 1
