"""Whether a source is connected, and how a lost one is tried again."""

from __future__ import annotations

import logging

import pytest

from agent.backoff import LOGIN_WAIT_S, Backoff
from agent.capture import SourceStats
from agent.capture.link import Link, LinkState, away
from agent.errors import AgentError, NotPermitted, ServiceAway
from tests.unit.test_backoff import Most

LOST = ServiceAway("connection reset")


class Waits:
    """Stands in for the stop event: notes the waits, and is set after `count` of them."""

    def __init__(self, count: int) -> None:
        self.waits_s: list[float] = []
        self._count = count

    def is_set(self) -> bool:
        """Return whether the waits are over."""
        return len(self.waits_s) > self._count

    def wait(self, timeout: float) -> bool:
        """Note the wait, without waiting."""
        self.waits_s.append(timeout)
        return self.is_set()


def link(stop: Waits, stats: SourceStats) -> Link:
    backoff = Backoff(first_s=1.0, max_s=8.0, rng=Most())
    return Link(camera="front", stats=stats, backoff=backoff, lasting_s=8.0, stop=stop, now=lambda: 0.0)


def regain(errors: list[AgentError], stats: SourceStats | None = None) -> list[float]:
    """Return the waits of a link whose every attempt fails, with the given errors in turn."""
    answers, stop = iter(errors), Waits(len(errors))

    def connect() -> None:
        raise next(answers)

    assert link(stop, stats or SourceStats()).regain(connect, LOST) is None
    return stop.waits_s


def test_waits_grow_while_the_camera_is_away() -> None:
    """Each failed attempt doubles the ceiling of the next wait, up to the limit."""
    assert regain([ServiceAway("away")] * 5) == [1, 2, 4, 8, 8, 8]


def test_a_refused_login_is_tried_slowly() -> None:
    """Cameras lock an account after a few wrong passwords: at least half a minute between attempts."""
    assert min(regain([NotPermitted("login refused")] * 4)[1:]) >= LOGIN_WAIT_S


def test_one_line_for_each_change(caplog: pytest.LogCaptureFixture) -> None:
    """A night without the camera is three lines in the log, not one for each attempt."""
    with caplog.at_level(logging.INFO):
        regain([ServiceAway("connection refused")] * 20 + [NotPermitted("login refused")] * 20)
    assert [record.message.split(": ", 1)[1] for record in caplog.records] == [
        "lost: connection reset",
        "still away: connection refused",
        "still away: login refused",
    ]


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (NotPermitted("login refused", seen="rtsp://cam"), LinkState("refused", "login refused")),
        (ServiceAway("connection refused", fix="check"), LinkState("lost", "connection refused")),
    ],
)
def test_what_it_does_now_is_told(last: AgentError, expected: LinkState) -> None:
    """While it tries the state is why it could not, in the words of the fault, without address and advice."""
    stats = SourceStats()
    assert stats.link == LinkState("connecting")
    regain([last], stats)
    assert stats.link == expected


def test_it_is_up_again_once_connected() -> None:
    """A connection is handed out, counted, and told; before, silence is told as such."""
    stats = SourceStats()
    seen: list[LinkState] = []

    def connect() -> str:
        seen.append(stats.link)
        return "connection"

    assert link(Waits(9), stats).regain(connect, ServiceAway("silent for 10 s"), silent=True) == "connection"
    assert seen == [LinkState("silent", "silent for 10 s")]
    assert (stats.link, stats.losses, stats.reconnects) == (LinkState("up"), 1, 1)


def test_what_was_told_bad_is_told_good(caplog: pytest.LogCaptureFixture) -> None:
    """Who sees warnings only sees the end of what they warned of."""
    link(Waits(9), SourceStats()).regain(lambda: "connection", LOST)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        "camera front: lost: connection reset",
        "camera front: back, attempt 1",
    ]


def test_an_unexpected_fault_has_a_name_too() -> None:
    """What a library raises is told by its kind."""
    assert away(KeyError("x")) == LinkState("lost", "KeyError")
