"""The capture loop: faults that end it, faults that it waits out, and pictures that nobody can use."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest

from agent.backoff import Backoff
from agent.camerahealth import Signs
from agent.capture import SourceStats
from agent.capture.link import UP, LinkState
from agent.captureloop import Capture
from agent.config import Sampling
from agent.errors import AgentError, BadData, NotPermitted, ServiceAway
from agent.mailbox import Mailbox
from agent.messages import Frame
from agent.picture import BLACK
from agent.sampling import make_sampler
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator


def picture(level: int = 40) -> av.VideoFrame:
    """Return a picture with some structure from 40 grey levels on."""
    luma = np.full((96, 64), level, np.uint8)
    luma[:64] += (np.arange(64, dtype=np.uint8) * 2)[None, :] * (level >= 40)
    luma[64:] = 128
    return av.VideoFrame.from_ndarray(luma, format="yuv420p")


class Script:
    """A source that gives so many frames, then its fault, or its end."""

    frame_count, frame_rate_hz, released = 0, 25.0, True

    def __init__(
        self, frames: int, fault: AgentError | None = None, *, level: int = 40, live: bool = True
    ) -> None:
        self._frames, self._fault, self._level, self.live = frames, fault, level, live
        self.stats = SourceStats(link=UP)
        self.closed = threading.Event()

    def open(self) -> None:
        if self._fault is not None and not self._frames:
            raise self._fault

    def frames(self) -> Iterator[Any]:
        for seq in range(self._frames):
            self.stats.frames += 1
            yield Frame("c", seq, seq / 25, seq / 25, seq / 25, picture(self._level))
        if self._fault is not None:
            raise self._fault

    def close(self) -> None:
        self.closed.set()


def capture(sources: list[Script], mailbox: Mailbox, *, retry: bool) -> Capture:
    backoff = Backoff(first_s=0.001, max_s=0.001, rng=random.Random(1)) if retry else None
    following = iter(sources)
    return Capture("c", lambda: next(following), make_sampler(Sampling()), mailbox, retry=backoff)


def test_without_retry_a_fault_comes_out() -> None:
    """A command ends with the fault of its source, and the mailbox is closed."""
    mailbox = Mailbox(threading.Condition())
    with pytest.raises(ServiceAway, match="away"):
        capture([Script(2, ServiceAway("away"))], mailbox, retry=False).run()
    assert mailbox.take() is not None
    assert mailbox.finished


def test_with_retry_the_source_is_made_anew(caplog: pytest.LogCaptureFixture) -> None:
    """A service waits the fault out; the same fault again is not told again, a new one is."""
    caplog.set_level("WARNING")
    mailbox = Mailbox(threading.Condition())
    faults = [ServiceAway("away"), ServiceAway("away"), BadData("odd")]
    sources = [*(Script(0, fault) for fault in faults), Script(3)]
    camera = capture(sources, mailbox, retry=True)
    camera.run()
    assert camera.frames == 3
    assert camera.failures == 3
    assert all(source.closed.is_set() for source in sources)
    assert [record.message for record in caplog.records] == [
        "camera c: away",
        "camera c: odd",
        "camera c: works again",
    ]


def test_losses_of_a_connection_are_failures() -> None:
    """A source that connects again by itself is counted like one made anew, and has no rate while it is away."""
    mailbox = Mailbox(threading.Condition())
    seen: list[tuple[int, float]] = []

    class Losing(Script):
        def frames(self) -> Iterator[Any]:
            yield from super().frames()
            seen.append((camera.failures, camera.frame_rate_hz))
            self.stats.losses, self.stats.link = 2, LinkState("lost", "connection reset")
            seen.append((camera.failures, camera.frame_rate_hz))

    camera = capture([Script(0, ServiceAway("away")), Losing(2)], mailbox, retry=True)
    camera.run()
    assert seen == [(1, 25.0), (3, 0.0)]
    assert camera.failures == 3


def test_close_ends_the_wait_for_another_try() -> None:
    """A camera that is away for long does not hold up the end."""
    mailbox = Mailbox(threading.Condition())
    backoff = Backoff(first_s=1e6, max_s=1e6, rng=random.Random(1))
    source = Script(0, ServiceAway("away"))
    camera = Capture("c", lambda: source, make_sampler(Sampling()), mailbox, retry=backoff)
    thread = threading.Thread(target=camera.run)
    thread.start()
    assert source.closed.wait(HANGS_S)
    camera.close()
    thread.join(HANGS_S)
    assert not thread.is_alive()
    assert mailbox.finished


def test_pictures_that_are_refused_are_the_source_s_fault() -> None:
    """What the stages can't use comes back through the mailbox as a fault of this camera alone."""
    mailbox = Mailbox(threading.Condition())

    class Odd(Script):
        def frames(self) -> Iterator[Any]:
            for frame in super().frames():
                yield frame
                mailbox.refuse(BadData("pictures of this kind can't be scaled"))

    with pytest.raises(BadData, match="this kind"):
        capture([Odd(2)], mailbox, retry=False).run()


def test_a_new_source_does_not_answer_for_the_one_before() -> None:
    """A refusal that nobody heard of any more does not fail the next connection."""
    mailbox = Mailbox(threading.Condition())
    mailbox.refuse(BadData("of the camera before"))
    camera = capture([Script(2)], mailbox, retry=False)
    camera.run()
    assert camera.frames == 2


def test_an_unexpected_fault_of_one_camera_is_waited_out(caplog: pytest.LogCaptureFixture) -> None:
    """A bug in a camera's library costs this camera a retry, not the service."""

    class Buggy(Script):
        def open(self) -> None:
            raise KeyError("SensorTimestamp")

    camera = capture([Buggy(0), Script(2)], Mailbox(threading.Condition()), retry=True)
    camera.run()
    assert camera.frames == 2
    assert "KeyError" in caplog.text


def test_a_source_that_does_not_let_go_is_not_joined_by_another() -> None:
    """While a driver that hangs still has its thread, no new source is made."""
    hung = Script(0, ServiceAway("away"))
    hung.released = False
    made: list[Script] = []

    def new() -> Script:
        made.append(hung if not made else Script(1))
        return made[-1]

    backoff = Backoff(first_s=0.001, max_s=0.001, rng=random.Random(1))
    sampler = make_sampler(Sampling())
    camera = Capture("c", new, sampler, Mailbox(threading.Condition()), retry=backoff)
    thread = threading.Thread(target=camera.run)
    thread.start()
    assert hung.closed.wait(HANGS_S)
    thread.join(0.5)
    assert len(made) == 1
    hung.released = True
    thread.join(HANGS_S)
    assert len(made) == 2


def test_one_frame_a_connection_does_not_reset_the_waits() -> None:
    """A camera that gives a picture and fails is no more trusted than one that gives none."""

    class Waits(Backoff):
        resets = 0

        def reset(self) -> None:
            self.resets += 1

    waits = Waits(first_s=0.001, max_s=0.001, rng=random.Random(1))
    sources = iter([*(Script(1, ServiceAway("lost")) for _ in range(3)), Script(1)])
    sampler = make_sampler(Sampling())
    Capture("c", lambda: next(sources), sampler, Mailbox(threading.Condition()), retry=waits).run()
    assert waits.resets == 0


def test_pictures_with_a_flaw_and_those_not_trusted_are_left_out() -> None:
    """A live camera's black pictures are counted and never inferred, nor any while its state says so."""
    mailbox = Mailbox(threading.Condition())
    dark = capture([Script(5, level=16)], mailbox, retry=False)
    dark.run()
    assert (dark.frames, dark.suppressed, mailbox.take()) == (5, 5, None)
    assert dark.signs.flaw == BLACK
    doubted = capture([Script(5)], mailbox, retry=False)
    doubted.trusted = False
    doubted.run()
    assert (doubted.suppressed, mailbox.take()) == (5, None)


def test_a_clip_is_what_it_is() -> None:
    """Its black pictures are inferred as all others."""
    mailbox = Mailbox(threading.Condition())
    clip = capture([Script(5, level=16, live=False)], mailbox, retry=False)
    clip.run()
    assert clip.suppressed == 0
    assert mailbox.take() is not None


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (ServiceAway("connection refused"), LinkState("lost", "connection refused")),
        (NotPermitted("login refused"), LinkState("refused", "login refused")),
    ],
)
def test_the_signs_of_a_camera(
    fault: AgentError, expected: LinkState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why it can't be had, while it is waited for; then what the source that works says."""
    monkeypatch.setattr("agent.captureloop.LOGIN_WAIT_S", 0.0)
    last = Script(3)
    last.stats.undecodable_packets, last.stats.corrupt_frames, last.stats.clock_jumps = 2, 1, 4
    seen: list[Signs] = []

    def new() -> Script:
        seen.append(camera.signs)
        return Script(0, fault) if len(seen) == 1 else last

    backoff = Backoff(first_s=0.001, max_s=0.001, rng=random.Random(1))
    mailbox = Mailbox(threading.Condition())
    camera = Capture("c", new, make_sampler(Sampling()), mailbox, retry=backoff)
    camera.run()
    assert seen == [Signs(LinkState("connecting")), Signs(expected)]
    assert camera.signs == Signs(UP, packets=0, frames=3, damaged=3, clock_jumps=4)
