"""The stages of a camera: its events end once when it is lost, whichever thread sees that."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from agent.messages import Event, Frame
from agent.pipeline import Result
from agent.stages import CAMERA_LOST, CameraStages
from tests.unit.test_captureloop import picture


class Ends:
    """Stands in for pipeline and reporter: one object is there until it is closed."""

    watchful = True

    def __init__(self) -> None:
        self.there = 1
        self.told: list[tuple[float, list[str | None], dict[str, tuple[int, int]]]] = []

    def finish(self, frame: Frame, geometry: Any, outputs: Any) -> Result:
        self.there = 1
        return Result(frame, None, None, [])  # type: ignore[arg-type]

    def counts(self) -> dict[str, tuple[int, int]]:
        return {"person": (self.there, self.there)}

    def close(self, now_s: float, reason: str) -> list[Event]:
        there, self.there = self.there, 0
        box = (0.0, 0.0, 1.0, 1.0)
        event = Event("end", "1", "c", "person", 1.0, 1.0, box, (), False, 0.0, now_s, 0.5, reason)
        return [event] * there

    def report(
        self, facts: Any, time_s: float, events: list[Event], counts: dict[str, tuple[int, int]]
    ) -> None:
        self.told.append((time_s, [event.reason for event in events], counts))


def test_a_camera_that_is_lost_ends_its_events_once() -> None:
    """Its counts go to 0, a frame that was still in work changes nothing, and found again it goes on."""
    both: Any = Ends()
    stages = CameraStages(both, both)
    stages.lose(1.0)
    stages.find()
    assert both.told == [], "nothing was seen yet"
    geometry: Any = None
    frames = [Frame("c", n, n, n, n, picture()) for n in range(3)]
    stages.finish(frames[0], geometry, ())
    for now_s in (5.0, 6.0):
        stages.lose(now_s)
        stages.finish(frames[1], geometry, ())
    assert both.told[1:] == [(5.0, [CAMERA_LOST], {"person": (0, 0)})]
    assert not stages.watchful()
    stages.find()
    stages.finish(frames[2], geometry, ())
    assert both.told[-1] == (2, [], {"person": (1, 1)})
    assert stages.inferred == 2


def test_a_camera_may_be_lost_while_it_finishes() -> None:
    """The thread that watches and the one that finishes frames never end an object twice, nor leave one open."""
    both: Any = Ends()
    stages = CameraStages(both, both)
    geometry: Any = None
    frame = Frame("c", 0, 0.0, 0.0, 0.0, picture())

    def finish() -> None:
        for _ in range(3000):
            stages.finish(frame, geometry, ())

    working = threading.Thread(target=finish)
    working.start()
    while working.is_alive():
        stages.lose(1.0)
        stages.find()
    stages.lose(2.0)
    for _, reasons, counts in both.told:
        assert counts["person"][0] == (0 if reasons else 1) or reasons == []
    assert both.counts()["person"] == (0, 0)


def test_an_end_that_could_not_be_told_is_told_later() -> None:
    """A fault while one of three ends is put costs none of them; frames that come too late are counted."""
    both: Any = Ends()
    report = both.report

    def fails_once(*told: Any) -> None:
        if [reasons for _, reasons, _ in both.told if reasons] == [[CAMERA_LOST]] and both.report != report:
            both.report = report
            raise RuntimeError("once")
        report(*told)

    stages = CameraStages(both, both)
    geometry: Any = None
    stages.finish(Frame("c", 0, 0.0, 0.0, 0.0, picture()), geometry, ())
    both.there, both.report = 3, fails_once
    with pytest.raises(RuntimeError):
        stages.lose(5.0)
    stages.finish(Frame("c", 1, 1.0, 1.0, 1.0, picture()), geometry, ())
    stages.lose(6.0)
    stages.lose(7.0)
    assert [told[:2] for told in both.told if told[1]] == [(5.0, [CAMERA_LOST])] * 3
    assert (stages.events, stages.inferred, stages.suppressed) == (3, 1, 1)
