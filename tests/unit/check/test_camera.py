"""Watching real sources: what is measured, and when it is given up."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from agent.capture import StreamOptions
from agent.check import verdict
from agent.check.camera import WATCH_MAX_S, _cpu_s, observe
from agent.errors import AgentError, ServiceAway
from agent.starter import sample_clip
from tests.e2e.cameras.http_server import HttpServer
from tests.patience import HANGS_S

QUICK = StreamOptions(open_timeout_s=2.0, stall_timeout_s=2.0)


class Tiring(HttpServer):
    """Sends some pictures on /live, then none; the connection stays."""

    def __init__(self, pictures: int) -> None:
        super().__init__()
        self._left = pictures

    @property
    def silent(self) -> bool:
        self._left -= 1
        return self._left < 0

    @silent.setter
    def silent(self, _: bool) -> None: ...


def test_a_clip_is_watched_for_a_few_seconds(camera) -> None:
    """Rate, key frames and codec are those of the file; decoding costs something and less than all."""
    seen = observe(camera(str(sample_clip())))
    assert seen.frames <= 10 * WATCH_MAX_S
    assert (seen.codec, seen.live, seen.stopped) == ("h264", False, False)
    assert seen.rate_hz == pytest.approx(10.0, rel=0.01)
    assert seen.gop_s == pytest.approx(2.0, rel=0.01)
    assert seen.frame is not None
    assert seen.frame.size == (768, 576)
    assert 0.0 < seen.decode_ms < 1000.0


def test_a_camera_that_ceases_is_found_out(camera, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures for a moment, then silence on an open connection: given up long before its timeout, and a fault."""
    monkeypatch.setattr("agent.check.camera.WATCH_MAX_S", 4.0)
    with Tiring(20) as server:
        seen = observe(camera(server.url("live"), stream=StreamOptions(stall_timeout_s=3600.0)))
        server.ended.set()
    assert seen.stopped
    assert [row.state for row in verdict.judge(camera(), seen)] == ["fault"]


def test_a_server_that_says_nothing(camera) -> None:
    """The limit of the camera's own options holds, and no timer goes on."""
    with HttpServer() as server:
        with pytest.raises(ServiceAway):
            observe(camera(server.url("hang"), stream=QUICK))
        server.ended.set()
    timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    assert all(timer.finished.is_set() for timer in timers)


def test_what_can_not_be_opened_raises(camera) -> None:
    """The source's own errors come through, with their fix."""
    with pytest.raises(AgentError, match="no such file"):
        observe(camera("/nowhere/clip.mp4"))


def test_the_work_of_the_reading_thread_is_counted() -> None:
    """A device is decoded in a thread of its own: its processor time is that camera's, not another's."""
    go, done = threading.Event(), threading.Event()

    def work() -> None:
        sum(n * n for n in range(3_000_000))
        done.set()
        go.wait(HANGS_S)

    before_s = _cpu_s("yard"), _cpu_s("gate")
    thread = threading.Thread(target=work, name="read yard", daemon=True)
    thread.start()
    assert done.wait(HANGS_S)
    yard_s, gate_s = _cpu_s("yard") - before_s[0], _cpu_s("gate") - before_s[1]
    go.set()
    thread.join(HANGS_S)
    if yard_s < 0.02:
        assert not Path("/proc/self/schedstat").exists(), "this kernel tells no times of threads"
    assert gate_s < max(0.02, yard_s / 5)
