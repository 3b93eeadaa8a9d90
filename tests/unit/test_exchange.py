"""What of a camera's objects outlives its model: tracks and events go on by the names of their labels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent.config import Detect
from agent.events import EventMachine
from agent.messages import Detections, Event, Frame, Geometry
from agent.pipeline import ModelSide, Pipeline
from agent.stages import CameraStages
from agent.tracker import Tracker, options_for

WHOLE = Geometry(1.0, 1.0, 0.0, 0.0)
PERSON, CAR = (0.1, 0.1, 0.2, 0.4), (0.6, 0.6, 0.8, 0.8)
BOTH = ("person", "car")


def side(
    *labels: str,
    threshold: float = 0.5,
    moves: bool = True,
    detect: Detect = Detect(),  # noqa: B008
) -> ModelSide:
    """Return a model that finds what it is given, each label in its place."""

    def decode(outputs: Any) -> Detections:
        found = [(labels.index(name), box) for name, box in outputs[0][0] if name in labels]
        return Detections(
            np.array([box for _, box in found], np.float32).reshape(-1, 4),
            np.full(len(found), 0.9, np.float32),
            np.array([label for label, _ in found], np.int32),
        )

    any_: Any = decode
    return ModelSide(any_, any_, 0.1, labels, threshold, options_for(detect, threshold), moves)


class Camera:
    """One camera that sees a person and a car, frame by frame."""

    def __init__(self, first: ModelSide, detect: Detect | None = None) -> None:
        detect = detect or Detect()
        numbers = iter(range(1, 100))
        machine = EventMachine(
            detect,
            camera="yard",
            labels=first.labels,
            default_threshold=first.threshold,
            new_event_id=lambda: f"e{next(numbers)}",
        )
        self.pipeline = Pipeline(side=first, tracker=Tracker(first.tracking), events=machine)
        self.told: list[tuple[str, str, str, str | None]] = []
        self.model: Any = "first"
        self.stages = CameraStages(self.pipeline, self, ())  # type: ignore[arg-type]
        self.now_s = 0.0

    def report(self, _: Any, time_s: float, events: list[Event], counts: Any) -> None:
        self.told += [(self.model, event.type, event.event_id, event.reason) for event in events]
        self.counts = counts

    def see(self, frames: int, *things: tuple[str, tuple[float, ...]]) -> None:
        for _ in range(frames):
            self.now_s += 0.1
            picture: Any = SimpleNamespace(width=640, height=480)
            frame = Frame("yard", round(self.now_s * 10), self.now_s, self.now_s, self.now_s, picture)
            outputs = np.empty(1, np.object_)
            outputs[0] = things
            self.stages.finish(frame, WHOLE, [outputs])


THINGS = ("person", PERSON), ("car", CAR)


@pytest.mark.parametrize("labels", [BOTH, ("car", "dog", "person"), ("dog", "person", "cat", "car")])
def test_known_labels_go_on_under_their_new_numbers(labels: tuple[str, ...]) -> None:
    """In whatever order the new model has them, nothing begins or ends; the counts stay."""
    camera = Camera(side(*BOTH))
    camera.see(10, *THINGS)
    assert [kind for _, kind, _, _ in camera.told] == ["new", "new"]
    camera.stages.exchange(side(*labels), "second")  # type: ignore[arg-type]
    camera.see(30, *THINGS)
    assert len(camera.told) == 2
    assert camera.counts == {"car": (1, 1), "person": (1, 1)}
    camera.stages.close("shutdown")
    assert [(model, kind, event) for model, kind, event, _ in camera.told[2:]] == [
        ("second", "end", "e1"),
        ("second", "end", "e2"),
    ]


def test_a_label_that_is_gone_ends_as_the_model_s_that_saw_it() -> None:
    """Reason "model", told with the old model's block, once; its count goes to 0 with the next frame."""
    camera = Camera(side(*BOTH))
    camera.see(10, *THINGS)
    camera.stages.exchange(side("person"), "second")  # type: ignore[arg-type]
    assert camera.told[2:] == [("first", "end", "e2", "model")]
    assert camera.counts["car"] == (0, 0)
    camera.see(30, *THINGS)
    assert len(camera.told) == 3
    camera.stages.exchange(side(*BOTH), "third")  # type: ignore[arg-type]
    camera.see(10, *THINGS)
    assert camera.told[3:] == [("third", "new", "e3", None)]


def test_whole_pictures_and_boxes_have_nothing_in_common() -> None:
    """A classifier's person is none that a detector can follow."""
    camera = Camera(side(*BOTH))
    camera.see(10, *THINGS)
    camera.stages.exchange(side(*BOTH, moves=False), "second")  # type: ignore[arg-type]
    assert [(kind, reason) for _, kind, _, reason in camera.told[2:]] == [("end", "model")] * 2


@pytest.mark.parametrize(("own", "threshold", "news"), [(None, 0.95, 0), (0.5, 0.95, 1)])
def test_the_model_s_threshold_holds_where_the_configuration_has_none(
    own: float | None, threshold: float, news: int
) -> None:
    """Objects score 0.9: the new model's 0.95 is not reached; one that is configured stays."""
    detect = Detect(threshold=own, hysteresis=0.0)
    camera = Camera(side(*BOTH), detect)
    camera.stages.exchange(side(*BOTH, threshold=threshold, detect=detect), "second")  # type: ignore[arg-type]
    camera.see(10, ("person", PERSON))
    assert len(camera.told) == news


def test_numbers_that_are_none_are_noticed() -> None:
    """One frame in 16 is looked at, the first included."""
    camera = Camera(side(*BOTH))
    camera.stages._pipeline = _Blind()  # type: ignore[assignment]
    bad = np.array([np.nan], np.float32)
    for number in range(32):
        picture: Any = SimpleNamespace(width=640, height=480)
        frame = Frame("yard", number, 9.0 + number, 9.0, 9.0, picture)
        camera.stages.finish(frame, WHOLE, [bad])
    assert camera.stages.not_finite == 2


def test_a_new_model_s_first_frame_is_looked_at() -> None:
    """One that gives nonsense is not to be at work for 15 frames more: of a slow camera that is minutes."""
    camera = Camera(side(*BOTH))
    camera.see(1)
    camera.stages.exchange(side(*BOTH), "second")  # type: ignore[arg-type]
    camera.stages._pipeline = _Blind()  # type: ignore[assignment]
    picture: Any = SimpleNamespace(width=640, height=480)
    camera.stages.finish(Frame("yard", 2, 9.0, 9.0, 9.0, picture), WHOLE, [np.array([np.nan], np.float32)])
    assert camera.stages.not_finite == 1
    camera.stages._pipeline = Camera(side(*BOTH)).pipeline
    camera.stages.exchange(side(*BOTH), "third")  # type: ignore[arg-type]
    assert camera.stages.not_finite == 0, "the model that follows is blamed"


class _Blind:
    """Sees nothing in anything."""

    watchful = False

    def finish(self, *_: Any) -> Any:
        return SimpleNamespace(events=[])

    def counts(self) -> dict[str, tuple[int, int]]:
        return {}
