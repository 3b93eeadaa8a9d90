"""The chain of one camera, and the model that is opened for it."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from agent import assembly
from agent.assembly import build_pipeline, open_model
from agent.bundle import load_bundle
from agent.config import Detect
from agent.errors import BadData
from agent.messages import Frame, Geometry, TensorSpec
from agent.starter import starter_bundle

STARTER = starter_bundle()
WHOLE = Geometry(1.0, 1.0, 0.0, 0.0)


def test_the_starter_opens():
    """A sound bundle gives the bundle and an engine that is ready."""
    bundle, engine = open_model(STARTER, threads=1)
    assert engine.info.precision == bundle.artifact().precision == "int8"
    engine.close()


def test_weights_that_are_changed_after_the_check_do_not_run(tmp_path, monkeypatch):
    """What was hashed is what runs: another network put there between the check and the opening is refused."""
    path = tmp_path / STARTER.name
    shutil.copytree(STARTER, path)

    def checked(*given):
        bundle = load_bundle(*given)
        file = bundle.file(bundle.artifact())
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        return bundle

    monkeypatch.setattr(assembly, "load_bundle", checked)
    with pytest.raises(BadData, match=r"\.tflite: wrong sha256"):
        open_model(path, threads=1)


def test_the_engine_of_a_broken_model_is_closed(monkeypatch):
    """When the trial fails the error goes on and nothing stays open."""
    closed = []

    def broken(*_):
        raise BadData("broken")

    monkeypatch.setattr(
        assembly, "open_engine", lambda *_, **__: SimpleNamespace(close=lambda: closed.append(1))
    )
    monkeypatch.setattr(assembly, "try_out", broken)
    with pytest.raises(BadData, match="broken"):
        open_model(STARTER, threads=1)
    assert closed == [1]


def test_a_classifier_announces_each_visit(bundle):
    """A person seen at 0-20, 40-60 and 80-100 s is three events, none of them stationary."""
    engine = SimpleNamespace(
        input=TensorSpec("in", (1, 32, 64, 3), np.dtype(np.uint8)),
        outputs=(TensorSpec("out", (1, 2), np.dtype(np.float32)),),
    )
    made = bundle("classification", labels=2, score_threshold=0.5)
    pipeline = build_pipeline(made, engine, Detect(labels=("class 1",)), camera="yard")
    told = []
    for k in range(110 * 5):
        time_s = k / 5
        person = time_s % 40 < 20
        frame = Frame("yard", k, time_s, time_s, time_s, SimpleNamespace(width=640, height=480))
        scores = np.array([[0.1, 0.9] if person else [0.9, 0.1]], np.float32)
        told += pipeline.finish(frame, WHOLE, [scores]).events
    assert [event.type for event in told] == ["new", "end"] * 3
    assert [event.start_s for event in told[::2]] == [0.0, 40.0, 80.0]
    assert not any(event.stationary for event in told)
