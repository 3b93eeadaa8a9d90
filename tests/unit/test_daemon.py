"""How a run ends: what failed last is not lost, and what was good stays."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent import engines, loading, monitor
from agent import systemd as agent_systemd
from agent.config import CameraConfig, Config
from agent.daemon import run
from agent.errors import AgentError, BadData, InputMissing, TryAgain
from agent.modelstore import ModelStore
from agent.modelstore.install import Options, install
from agent.modelstore.trial import TrialResult
from agent.pipeline import Pipeline
from agent.runoptions import RunOptions
from agent.starter import sample_clip, starter_bundle
from tests import broken_models, doubles
from tests.patience import HANGS_S
from tests.unit.enginestore.bundles import make_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from agent.messages import Frame, ModelInput

LAST = 199
AWAY = CameraConfig(name="away", source="rtsp://127.0.0.1:1/x")


def options(tmp_path: Path, *cameras: CameraConfig, **more: Any) -> RunOptions:
    """Return a run of `cameras`, of the sample clip without, into a file."""
    config = Config(
        camera=cameras or (CameraConfig(name="c", source=str(sample_clip())),),
        device="test",
        state_dir=str(tmp_path / "state"),
        sink=str(tmp_path / "events.jsonl"),
    )
    return RunOptions(config=config, **more)


@pytest.mark.parametrize("number", [100, LAST, LAST + 1])
def test_a_fault_of_the_engine_is_told_even_on_the_last_frame(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Capture has long ended then: the fault still is the end of the run."""
    real = engines.open_model

    class Breaking:
        def __init__(self, engine: Any) -> None:
            self._engine, self.runs = engine, 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self._engine, name)

        def infer(self, tensor: Any) -> Any:
            self.runs += 1
            if self.runs == number:
                raise RuntimeError("the engine broke")
            return self._engine.infer(tensor)

    def opened(path: Path, **how: Any) -> Any:
        bundle, engine = real(path, **how)
        return bundle, Breaking(engine)

    monkeypatch.setattr(engines, "open_model", opened)
    with pytest.raises(RuntimeError, match="broke"):
        run(options(tmp_path, pace="fastest"))


def test_a_last_picture_that_is_no_good_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No later frame brings the news to the source: the run ends with it all the same."""
    real = Pipeline.prepare

    def prepare(self: Pipeline, frame: Frame) -> ModelInput:
        if frame.seq == LAST:
            raise BadData("pictures of this kind can't be scaled")
        return real(self, frame)

    monkeypatch.setattr(Pipeline, "prepare", prepare)
    with pytest.raises(BadData, match="of this kind"):
        run(options(tmp_path, pace="fastest"))


def kill(number: int) -> None:
    os.kill(os.getpid(), number)


def test_a_reload_that_can_t_start_returns_to_the_last_good_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Cameras taken over by a reload are still watched after the next one has failed, not those of the start."""
    caplog.set_level("INFO")
    first = options(tmp_path, AWAY)
    second = replace(first, config=msgspec.structs.replace(first.config, camera=(AWAY, cam("b"))))
    third = replace(second, config=msgspec.structs.replace(second.config, sink=str(tmp_path / "no" / "x")))
    following = [second, third]

    def load() -> RunOptions:
        return replace(following.pop(0), reload=load)

    steps = [(signal.SIGHUP, "reloaded"), (signal.SIGHUP, "the configuration before it stays")]
    done = drive(caplog, steps)
    run(replace(first, reload=load))
    done.join(HANGS_S)
    summaries = [r.message for r in caplog.records if "event messages" in r.message]
    assert any(m.startswith("camera b:") for m in summaries[-2:]), summaries


def test_a_signal_during_a_reload_is_not_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """SIGTERM while the old configuration is being left ends the new one at once."""
    caplog.set_level("INFO")
    first = options(tmp_path, AWAY)
    second = replace(first, config=msgspec.structs.replace(first.config, device="renamed"))

    def load() -> RunOptions:
        kill(signal.SIGTERM)
        return replace(second, reload=load)

    done = drive(caplog, [(signal.SIGHUP, None)], stop=False)
    run(replace(first, reload=load))
    done.join(HANGS_S)
    assert "starting anew" in caplog.text


class Slow:
    """Opens models; from the second on each waits until systemd has heard enough, and tells what that was."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.link.bind(str(tmp_path / "notify"))
        self.link.settimeout(HANGS_S)
        self._real, self._opened = engines.open_model, 0
        self.meanwhile: list[str] = []
        self.loaded = threading.Event()
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        monkeypatch.setattr(engines, "open_model", self.open)
        monkeypatch.setattr(agent_systemd, "_FEED_S", 0.05)
        monkeypatch.setattr(monitor, "PERIOD_S", 0.05)

    def open(self, path: Path, **how: Any) -> Any:
        self._opened += 1
        if self._opened > 1:
            while "RELOADING=1" not in self.heard():
                pass
            self.meanwhile = [line for _ in range(10) for line in self.heard()]
            self.loaded.set()
        return self._real(path, **how)

    def heard(self) -> list[str]:
        return self.link.recv(4096).decode().split("\n")


@pytest.mark.parametrize("what", ["device", "model"])
def test_systemd_hears_of_life_while_a_reload_loads_and_not_that_it_is_done(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether all begins anew or a camera has another model: fed all the time, READY once the models are there."""
    slow = Slow(tmp_path, monkeypatch)
    shutil.copytree(starter_bundle(), tmp_path / "other")
    first = options(tmp_path, AWAY)
    new = {"device": "b"} if what == "device" else {"camera": (AWAY, with_model(str(tmp_path / "other")))}
    second = replace(first, config=msgspec.structs.replace(first.config, **new))
    ready = []

    def drive() -> None:
        for number in (signal.SIGHUP, signal.SIGTERM):
            while "READY=1" not in slow.heard():
                pass
            ready.append(number)
            kill(number)
            slow.loaded.wait(HANGS_S)

    driver = threading.Thread(target=drive)
    driver.start()
    run(replace(first, reload=lambda: replace(second, reload=lambda: second)))
    driver.join(HANGS_S)
    slow.link.close()
    assert slow.meanwhile.count("WATCHDOG=1") >= 8
    assert "READY=1" not in slow.meanwhile
    assert ready == [signal.SIGHUP, signal.SIGTERM]


def test_a_start_that_builds_an_engine_has_time_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX alone: systemd is told how far the build is, and waits as long as that goes on, however long."""
    make_bundle(tmp_path / "tiny", "fp16")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(agent_systemd, "BUSY_S", 0.2)
    monkeypatch.setattr(loading, "BUSY_AGAIN_S", 0.1)
    for name, value in doubles.environment(settings="step_s=0.2").items():
        monkeypatch.setenv(name, value)
    camera = CameraConfig(name="c", source=str(sample_clip()), model=str(tmp_path / "tiny"))
    with doubles.present(settings="step_s=0.2"), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(str(tmp_path / "notify"))
        link.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        heard: list[str] = []
        over = threading.Event()

        def listen() -> None:
            while not over.wait(0.01):
                with contextlib.suppress(BlockingIOError):
                    heard.append(link.recv(65536).decode())

        listener = threading.Thread(target=listen)
        listener.start()
        run(options(tmp_path, camera, pace="fastest"))
        over.set()
        listener.join(HANGS_S)
    build = [text for text in heard if "STATUS=starting: fp16.onnx: " in text]
    assert build
    assert all("EXTEND_TIMEOUT_USEC=" in text for text in build)


@pytest.mark.parametrize("what", ["start", "device", "model"])
def test_a_stop_does_not_wait_for_models(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """SIGTERM while one is loaded, at the start or for a reload: the end comes at once, and is a good one."""
    real, opened, go_on = engines.open_model, [], threading.Event()

    def slow(path: Path, **how: Any) -> Any:
        opened.append(path)
        if len(opened) == (1 if what == "start" else 2):
            threading.Thread(target=kill, args=(signal.SIGTERM,)).start()
            go_on.wait(HANGS_S)
        return real(path, **how)

    monkeypatch.setattr(engines, "open_model", slow)
    shutil.copytree(starter_bundle(), tmp_path / "other")
    first = options(tmp_path, AWAY)
    new = {"device": "b"} if what == "device" else {"camera": (AWAY, with_model(str(tmp_path / "other")))}
    second = replace(first, config=msgspec.structs.replace(first.config, **new))
    done = None if what == "start" else drive(caplog, [(signal.SIGHUP, None)], stop=False)
    run(replace(first, reload=lambda: second))
    assert len(opened) == (1 if what == "start" else 2)
    assert not go_on.is_set()
    loading = [thread for thread in threading.enumerate() if thread.name == "loading"]
    assert loading
    go_on.set()
    for thread in loading:
        thread.join(HANGS_S)
    if done:
        done.join(HANGS_S)


def with_model(path: str) -> CameraConfig:
    return CameraConfig(name="b", source="rtsp://127.0.0.1:1/x", model=path)


def cam(name: str) -> CameraConfig:
    return CameraConfig(name=name, source="rtsp://127.0.0.1:1/x")


def drive(
    caplog: pytest.LogCaptureFixture, steps: list[tuple[int, str | None]], *, stop: bool = True
) -> threading.Thread:
    """Send each signal once the log holds what the one before it brought about; then SIGTERM."""

    def work() -> None:
        awaited: str | None = "refused"
        for number, brings in steps:
            wait_for(caplog, awaited)
            kill(number)
            awaited = brings
        wait_for(caplog, awaited)
        if stop:
            kill(signal.SIGTERM)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def wait_for(caplog: pytest.LogCaptureFixture, text: str | None) -> None:
    pause = threading.Event()
    for _ in range(round(HANGS_S / 0.1)):
        if text is None or text in caplog.text:
            return
        pause.wait(0.1)


def test_nothing_left_is_no_failure(tmp_path: Path) -> None:
    """With the broker away and not one event there is nothing to try again."""
    from agent.mqtt.options import MqttOptions

    clip = CameraConfig(name="c", source=str(sample_clip()))
    quiet = options(tmp_path, clip, pace="fastest", broker=MqttOptions("127.0.0.1", 1))
    strict = msgspec.structs.replace(quiet.config.detect, threshold=1.0)
    limits = msgspec.structs.replace(quiet.config.limits, drain_s=0.5)
    run(replace(quiet, config=msgspec.structs.replace(quiet.config, detect=strict, limits=limits)))
    with pytest.raises(TryAgain):
        run(replace(quiet, config=msgspec.structs.replace(quiet.config, limits=limits)))


def test_a_start_that_fails_for_another_reason_is_no_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in the configuration, or a second agent beside the first: that tells nothing of the model."""

    def passes(bundle: Path, sha: str, *_: object) -> TrialResult:
        return TrialResult(sha, "here", "2026-01-01T00:00:00Z", 0.1)

    monkeypatch.setattr("agent.modelstore.install.try_bundle", passes)
    store = ModelStore(tmp_path / "state" / "models")
    made = broken_models.make_bundle(tmp_path / "street", "street")
    sha = install(store, str(made), Options()).sha
    default, other = cam("default"), cam("other")
    mistaken = msgspec.structs.replace(other, model=str(tmp_path / "nowhere"))
    first: RunOptions = options(tmp_path, default, mistaken, reload=lambda: first)
    with pytest.raises(InputMissing, match="nowhere"):
        run(first)
    no_sink = options(tmp_path, default, reload=lambda: first)
    no_sink = replace(
        no_sink, config=msgspec.structs.replace(no_sink.config, sink=str(tmp_path / "no" / "x"))
    )
    with pytest.raises(AgentError):
        run(no_sink)
    state = store.read()
    assert (state.current, state.attempts) == (sha, 0)
