"""Better engines, built while something else serves, and handed over; with the doubles of TensorRT and CUDA."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from agent.choosing import Chooser
from agent.improving import Improver
from tests import doubles
from tests.e2e.brokers import wait_for
from tests.patience import HANGS_S
from tests.unit.enginestore.bundles import make_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from agent.backends import Engine
    from agent.bundle import Bundle


class Room:
    """A room that tells when another engine comes in. It runs what no artifact of the bundle is."""

    def __init__(self, bundle: Bundle) -> None:
        served = bundle.manifest.artifact[0]
        self.bundle = bundle.choose(type(served)(file="served.tflite", format="tflite", precision="int8"))
        self.engine: Engine | None = None
        self.changed = threading.Event()

    def exchange(self, bundle: Bundle, engine: Engine) -> None:
        self.bundle, self.engine = bundle, engine
        self.changed.set()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):
    """Have this process and its children find the double, with the settings that are given to what this returns."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    variables = doubles.environment()

    def settings(text: str) -> None:
        monkeypatch.setenv("TENSORRT_DOUBLE", text)

    with doubles.present():
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield settings


def test_a_room_gets_the_best_engine_that_can_be_built(
    tmp_path: Path, gpu: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """INT8 is refused, so FP16; both are told in one line each."""
    gpu("refuse=Abs")
    room = Room(make_bundle(tmp_path / "tiny", "int8", "fp16"))
    chooser = Chooser.here(tmp_path / "state")
    improver = Improver(chooser)
    with caplog.at_level(logging.WARNING):
        improver.look_after(room)
        assert room.changed.wait(HANGS_S)
        improver.close()
    assert room.bundle.artifact().file == "fp16.onnx"
    assert room.engine is not None
    assert room.engine.info.backend == "tensorrt"
    room.engine.close()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "node odd (Abs)" in told[0]
    assert told[1] == "model tiny: tensorrt fp16 runs from now on"
    assert improver.building(room) == ""


def test_what_runs_goes_on_when_nothing_can_be_built(
    tmp_path: Path, gpu: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """And the next start does not try again."""
    gpu("crash=build")
    bundle = make_bundle(tmp_path / "tiny", "int8")
    room, chooser = Room(bundle), Chooser.here(tmp_path / "state")
    improver = Improver(chooser)
    improver.look_after(room)
    wait_for(lambda: chooser.failures(bundle), HANGS_S, "the build to fail")
    improver.close()
    assert not room.changed.is_set()
    assert "served.tflite goes on" in caplog.text
    assert Chooser.here(tmp_path / "state").wanted(bundle) is None


def begun(tmp_path: Path, gpu: Any, step_s: float) -> tuple[Room, Chooser, Improver]:
    """Return all three while a build of 8 steps goes on."""
    gpu(f"step_s={step_s}")
    room, chooser = Room(make_bundle(tmp_path / "tiny", "int8")), Chooser.here(tmp_path / "state")
    improver = Improver(chooser)
    improver.look_after(room)
    wait_for(lambda: improver.building(room), HANGS_S, "the build to begin")
    return room, chooser, improver


def test_a_room_that_is_left_meanwhile_gets_nothing(tmp_path: Path, gpu: Any) -> None:
    """The engine is kept for the next time."""
    room, chooser, improver = begun(tmp_path, gpu, 0.2)
    improver.leave(room)
    wait_for(lambda: chooser.now(room.bundle), HANGS_S, "the build to end")
    improver.close()
    assert not room.changed.is_set()


def test_an_end_does_not_wait_for_a_build(tmp_path: Path, gpu: Any) -> None:
    """It is given up, without a failure."""
    room, chooser, improver = begun(tmp_path, gpu, 60)
    improver.close()
    wait_for(lambda: not list(chooser.engines.store.folder.glob("*.part")), HANGS_S, "the build to end")
    assert not room.changed.is_set()
    assert Chooser.here(tmp_path / "state").failures(room.bundle) == ()
