"""How a lost camera is tried again."""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace
from typing import Any

import pytest

from agent.backoff import LOGIN_WAIT_S, Backoff
from agent.capture import SourceStats, StreamOptions
from agent.capture.reader import Reader
from agent.errors import AgentError, NotPermitted, ServiceAway
from tests.unit.test_backoff import Most

URL = "rtsp://bob:secret@cam/1"


class Waits:
    """Stands in for the stop event: notes the waits, and is set after `count` of them."""

    def __init__(self, count: int) -> None:
        self.waits_s: list[float] = []
        self._count = count

    def is_set(self) -> bool:
        """Return whether the waits are over."""
        return len(self.waits_s) > self._count

    def wait(self, timeout_s: float) -> bool:
        """Note the wait, without waiting."""
        self.waits_s.append(timeout_s)
        return self.is_set()


def reconnect(errors: list[AgentError], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the waits of a reader whose every attempt fails, with the given errors in turn."""
    answers = iter(errors)

    def fail(*_: Any) -> None:
        raise next(answers)

    monkeypatch.setattr("agent.capture.reader.open_session", fail)
    backoff = Backoff(first_s=1.0, max_s=8.0, rng=Most())
    options, stats = StreamOptions(), SourceStats()
    reader = Reader(URL, camera="front", options=options, backoff=backoff, stats=stats, now=time.monotonic)
    stop = Waits(len(errors))
    reader._stop = stop  # type: ignore[assignment]
    assert reader._reconnect("connection reset") is None
    return stop.waits_s


def test_waits_grow_while_the_camera_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failed attempt doubles the ceiling of the next wait, up to the limit."""
    assert reconnect([ServiceAway("away")] * 5, monkeypatch) == [1, 2, 4, 8, 8, 8]


def test_a_refused_login_is_tried_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cameras lock an account after a few wrong passwords: at least half a minute between attempts."""
    waits_s = reconnect([NotPermitted("login refused")] * 4, monkeypatch)
    assert min(waits_s[1:]) >= LOGIN_WAIT_S


def test_one_line_for_each_change(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A night without the camera is three lines in the log, not one for each attempt; and no password."""
    away, refused = ServiceAway("connection refused"), NotPermitted("login refused")
    with caplog.at_level(logging.INFO):
        reconnect([away] * 20 + [refused] * 20, monkeypatch)
    assert len(caplog.records) == 3
    assert "secret" not in caplog.text


@pytest.mark.parametrize(("lasts_s", "expected_s"), [(7.9, [1, 2, 4, 8]), (8.0, [1, 1, 1, 1])])
def test_only_a_connection_that_lasts_brings_short_waits_back(
    monkeypatch: pytest.MonkeyPatch, lasts_s: float, expected_s: list[float]
) -> None:
    """A camera that accepts and drops at once is not hammered."""
    now_s = [0.0]

    def read(*_: Any) -> list[None]:
        now_s[0] += lasts_s
        return []

    session: Any = SimpleNamespace(live=True, close=lambda: None)
    monkeypatch.setattr("agent.capture.reader.open_session", lambda *_: session)
    monkeypatch.setattr("agent.capture.reader.read_packets", read)
    options = StreamOptions(backoff_first_s=1.0, backoff_max_s=8.0)
    backoff = Backoff(first_s=1.0, max_s=8.0, rng=Most())
    reader = Reader(
        URL, camera="front", options=options, backoff=backoff, stats=SourceStats(), now=lambda: now_s[0]
    )
    stop = Waits(3)
    reader._stop = stop  # type: ignore[assignment]
    reader._read_all(session)
    assert stop.waits_s == expected_s
