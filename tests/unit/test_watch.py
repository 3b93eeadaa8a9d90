"""The cameras at work: their states move with the ticks, and clips are what they are."""

from __future__ import annotations

import logging
import queue
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from agent.camera import Camera, CameraOptions, Ended
from agent.camerahealth import CameraHealth, HealthMachine
from agent.config import CameraConfig, Config
from agent.engines import Engines
from agent.outlet import open_outlet
from agent.watch import Watch, complete
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

AWAY = "rtsp://127.0.0.1:1/x"


@contextmanager
def watching(folder: Path, **sources: str) -> Iterator[tuple[Watch, queue.SimpleQueue[Ended]]]:
    """Watch cameras by their names, into a file; yield what ends of itself too."""
    config = Config(camera=tuple(CameraConfig(name, source) for name, source in sources.items()))
    ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
    sink: Any = {"broker": None, "sink": str(folder / "events.jsonl"), "state_dir": folder / "state"}
    with (
        Engines(threads=1, eager=False, tell=lambda _: None) as engines,
        open_outlet(device="t", topic_root="edge", **sink) as outlet,
    ):
        watch = Watch(engines, outlet, CameraOptions(), ended=ended.put)
        watch.apply(complete(config))
        try:
            yield watch, ended
        finally:
            watch.stop(watch.cameras, "shutdown")


def black_clip(path: Path) -> Path:
    """Write 3 s of black."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(30):
            luma = np.full((360, 320), 16, np.uint8)
            luma[240:] = 128
            frame = av.VideoFrame.from_ndarray(luma, format="yuv420p")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_a_clip_is_ok_whatever_it_shows(tmp_path: Path) -> None:
    """All pictures of a black clip at its own pace are inferred, and its state stays ok."""
    with watching(tmp_path, clip=str(black_clip(tmp_path / "black.mp4"))) as (watch, ended):
        (camera,) = watch.cameras
        states, began_s = [], time.monotonic()
        while ended.empty():
            assert time.monotonic() - began_s < HANGS_S
            watch.tick(began_s + len(states) / 10)  # a clock that stands while nobody is given time
            states.append(watch.health()["clip"].state)
            time.sleep(0.1)
    numbers = camera.numbers  # now that the last pictures in work are finished too
    assert set(states) <= {"starting", "ok"}
    assert (numbers.frames, numbers.suppressed) == (30, 0)
    assert numbers.inferred + numbers.replaced == 30


def test_a_clip_that_is_down_is_inferred_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that answers late, over HTTP, is never lost: each of its pictures counts."""
    monkeypatch.setattr(HealthMachine, "step", lambda *_: CameraHealth("down", 0.0, "no answer yet"))
    with watching(tmp_path, clip=str(black_clip(tmp_path / "black.mp4"))) as (watch, ended):
        (camera,) = watch.cameras
        began_s = time.monotonic()
        while ended.empty():
            assert time.monotonic() - began_s < HANGS_S
            if camera.numbers.frames:
                watch.tick(time.monotonic() + 10)
            time.sleep(0.1)
    numbers = camera.numbers  # now that the last pictures in work are finished too
    assert (numbers.frames, numbers.suppressed) == (30, 0)
    assert numbers.inferred + numbers.replaced == 30


def test_a_camera_that_is_away_is_down_and_said_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it is ticked; and time may stand still."""
    caplog.set_level(logging.INFO, "agent.standing")
    with watching(tmp_path, gate=AWAY) as (watch, _):
        began_s = time.monotonic()
        while watch.health()["gate"].state != "down":
            assert time.monotonic() - began_s < HANGS_S
            watch.tick(time.monotonic())
            time.sleep(0.1)
        for _ in range(20):
            watch.tick(began_s)
        health = watch.health()["gate"]
        assert (health.state, health.detail, health.trusted) == ("down", "connection refused", False)
        assert watch.cameras[0].numbers.frames == 0
    lines = [
        record.message
        for record in caplog.records
        if record.name == "agent.standing" and "down" in record.message
    ]
    assert lines == ["camera gate: down (connection refused): its pictures are not used"]


def test_a_tick_that_fails_is_told_once_and_leaves_the_other_cameras_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The cameras after it still get their states."""
    ticks: list[str] = []

    def tick(camera: Camera, now_s: float) -> None:
        if camera.config.name == "first":
            raise ValueError("odd")
        ticks.append(camera.config.name)

    monkeypatch.setattr(Camera, "tick", tick)
    with watching(tmp_path, first=AWAY, second=AWAY) as (watch, _):
        for second in range(3):
            watch.tick(float(second))
    assert ticks == ["second"] * 3
    assert [r.message for r in caplog.records if "odd" in r.message] == [
        "camera first: ValueError: odd; it goes on"
    ]
