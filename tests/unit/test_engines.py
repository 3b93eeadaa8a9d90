"""The table of engines: what a room gives to cameras that come while its engine is exchanged."""

from __future__ import annotations

import itertools
import queue
import sys
import threading
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from agent.assembly import model_side, open_model
from agent.bundle import load_bundle
from agent.choosing import Chooser
from agent.config import CameraConfig, Config, Detect
from agent.enginebuild import build_for
from agent.engineroom import EngineRoom
from agent.engines import Engines
from agent.enginestore import building
from agent.enginestore.memory import Bounds
from agent.errors import TryAgain
from agent.heartbeat import Heartbeat
from agent.mailbox import Mailbox
from agent.messages import EngineInfo, TensorSpec
from agent.runoptions import RunOptions
from agent.starter import starter_bundle
from tests import broken_models, doubles
from tests.e2e.test_jetson import bundle_of
from tests.patience import HANGS_S
from tests.unit.enginestore.bundles import SIZE, make_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHAPES = {"nchw": (1, 3, SIZE, SIZE), "nhwc": (1, SIZE, SIZE, 3)}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have this process and its children find the doubles of TensorRT and CUDA."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    for name, value in doubles.environment().items():
        monkeypatch.setenv(name, value)
    with doubles.present():
        yield


def engine_of(layout: str) -> Any:
    """Return what looks like an engine whose input has that `layout`."""
    return SimpleNamespace(
        input=TensorSpec("x", SHAPES[layout], np.dtype(np.float32)),
        outputs=(TensorSpec("scores", (1, 3), np.dtype(np.float32)),),
        info=EngineInfo("none", "fp16", 1, 0, 0),
        close=lambda: None,
    )


def test_a_camera_that_comes_at_an_exchange_gets_what_fits(tmp_path: Path) -> None:
    """Its chain is made for one engine: the artifact of one and the tensors of the other fit nothing."""
    bundle = make_bundle(tmp_path / "tiny", "fp16")
    (onnx,) = bundle.manifest.artifact
    other = type(onnx)(file="fp16.tflite", format="tflite", precision="fp16", layout="nhwc")
    sides = itertools.cycle(
        [(bundle.choose(other), engine_of("nhwc")), (bundle.choose(onnx), engine_of("nchw"))]
    )
    faults: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
    room = EngineRoom(*next(sides), eager=False, tell=faults.put)
    over = threading.Event()

    def exchange() -> None:
        while not over.is_set():
            room.exchange(*next(sides))

    thread = threading.Thread(target=exchange)
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for _ in range(300):
            room.pipeline(Detect(), camera="yard")
    finally:
        over.set()
        sys.setswitchinterval(before_s)
        thread.join(HANGS_S)
        room.close()
    assert faults.empty()


def test_a_camera_that_has_left_has_no_say_in_an_exchange(tmp_path: Path) -> None:
    """It asked for persons, whom the new model does not know: those that are still there go on with that."""
    faults: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
    room = EngineRoom(*open_model(starter_bundle()), eager=False, tell=faults.put)
    stages: Any = SimpleNamespace(exchange=lambda *_: None, not_finite=0)
    mailbox = Mailbox(room.bell, blocking=False)
    fit = partial(model_side, detect=Detect(labels=("person",)), camera="yard")
    lane = room.add(mailbox, stages, fit)
    mailbox.close()
    assert lane.done.wait(HANGS_S)
    new = open_model(broken_models.make_bundle(tmp_path / "tiny", "tiny"))
    room.check(*new)
    exchanged = room.exchange(*new).wait(HANGS_S)
    room.close()
    assert faults.empty()
    assert exchanged


@pytest.mark.parametrize("also", ["int8 tflite", ""])
def test_an_engine_that_hangs_is_not_what_the_next_start_takes(tmp_path: Path, gpu: None, also: str) -> None:
    """The watchdog ends the run; TFLite follows, unless nothing but this engine can run at all."""
    path, state = bundle_of(tmp_path / "bundle", "fp16 onnx", *filter(None, [also])), tmp_path / "state"
    build_for(load_bundle(path), state)
    chooser = Chooser.here(state)
    with Engines(eager=False, tell=lambda _: None, find=lambda: chooser) as engines:
        room = engines.room(path)
        assert room.model.backend == "tensorrt"
        engines.blame([Heartbeat(f"stages {room.model.name}", "finish")])
        assert chooser.failures(room.bundle) == ()
        for _ in range(2):
            engines.blame([room.engine_beat()])
        (status,) = engines.status()
        assert "fp16.onnx failed at work: it hangs" in status.failures[0]
    choice = Chooser.here(state).now(load_bundle(path))
    assert choice is not None
    assert choice.artifact == ("int8.tflite" if also else "fp16.onnx")


def test_who_has_nothing_else_tries_again_after_a_want(
    tmp_path: Path, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX alone, and no memory for the build: the next start does not wait for a day."""
    path, state = make_bundle(tmp_path / "tiny", "fp16").path, tmp_path / "state"
    with monkeypatch.context() as short:
        short.setattr(building, "bounds_for", lambda *_: Bounds(1 << 40, 1 << 50))
        with pytest.raises(TryAgain, match="not enough memory"):
            open_model(path, chooser=Chooser.here(state))
    bundle, engine = open_model(path, chooser=Chooser.here(state))
    engine.close()
    assert bundle.artifact().file == "fp16.onnx"


def test_a_state_directory_that_can_t_be_looked_into_decides_nothing(tmp_path: Path) -> None:
    """That it is no good (its name is too long) is told by who opens the outbox there."""
    camera = CameraConfig(name="yard", source="yard.mp4")
    config = Config(camera=(camera,), state_dir=str(tmp_path / ("x" * 300)))
    with RunOptions(config=config, root=tmp_path).open_engines(lambda _: None) as engines:
        assert engines.room(starter_bundle()).bundle.artifact().file == "int8.tflite"
        assert engines.building == ""
