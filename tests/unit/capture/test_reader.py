"""The thread that reads: which connections make the waits short again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agent.backoff import Backoff
from agent.capture import SourceStats, StreamOptions
from agent.capture.reader import Reader
from tests.unit.capture.test_link import Waits
from tests.unit.test_backoff import Most

URL = "rtsp://bob:secret@cam/1"


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
    reader._stop = reader._link._stop = stop  # type: ignore[assignment]
    reader._read_all(session)
    assert stop.waits_s == expected_s
    assert reader._stats.link.kind == "lost"
    assert reader._stats.link.detail == "ended by the camera"
