"""`edge-agent status` and the health topic: how a running agent says that it does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema

from agent import engines, overlap, wire
from agent.config import CameraConfig, Config
from agent.control import SOCKET, ask
from agent.daemon import run
from agent.errors import ServiceAway
from agent.heartbeat import Beat
from agent.runoptions import RunOptions
from agent.starter import STARTER, sample_clip
from tests.e2e.brokers import Subscriber, free_port, mosquitto, wait_for
from tests.e2e.test_several_cameras import write
from tests.patience import HANGS_S
from tests.unit.capture.clips import even, write_clip

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((Path(wire.__file__).parent / "schema" / "health-v1.schema.json").read_text())


def status(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `edge-agent status`, piped, 80 columns wide."""
    command = [sys.executable, "-m", "agent", "status", *map(str, arguments)]
    keep = {key: value for key, value in os.environ.items() if key != "RUNTIME_DIRECTORY"}
    surroundings = {**keep, "COLUMNS": "80", **environment}
    return subprocess.run(
        command, cwd=ROOT, env=surroundings, capture_output=True, text=True, timeout=HANGS_S, check=False
    )


@contextmanager
def agent(config: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the service."""
    command = [sys.executable, "-m", "agent", "run", "--config", str(config)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def asked(folder: Path) -> dict[str, Any]:
    """Return what the agent with its socket in `folder` answers, nothing where there is none."""
    try:
        answer: dict[str, Any] = json.loads(ask(folder, "status"))
    except ServiceAway:
        return {}
    return answer


def test_a_running_agent_tells_how_it_does(tmp_path: Path) -> None:
    """A camera that is away and a broker that goes are reasons; both are told here, the camera's over MQTT too."""
    state = tmp_path / "state"
    with mosquitto(tmp_path) as broker, Subscriber(broker.port, "edge/test/health") as subscriber:
        cameras = {"gate": f"rtsp://127.0.0.1:{free_port()}/", "yard": sample_clip()}
        config = write(tmp_path / "c.toml", cameras, port=broker.port)
        with agent(config) as running:
            wait_for(lambda: asked(state).get("verdict") == "degraded", HANGS_S, "the camera to be missed")
            wait_for(lambda: asked(state)["cameras"][1]["inferred"] > 10, HANGS_S, "frames")
            by_config, by_state = status("--config", config), status("--state", state, "--json")
            broker.kill()
            wait_for(lambda: not asked(state)["broker"]["connected"], HANGS_S, "the broker to be missed")
            reasons = asked(state)["reasons"]
            running.send_signal(signal.SIGTERM)
            running.wait(HANGS_S)
        told = [json.loads(payload) for payload in subscriber.payloads("health")]
    assert by_config.returncode == by_state.returncode == 1
    assert "camera gate: down" in " ".join(by_config.stdout.split())
    reasons_end = by_config.stdout.index("\n\n")
    assert all(line[:2] in {"- ", "  "} for line in by_config.stdout[:reasons_end].splitlines()[1:])
    assert max(map(len, by_config.stdout.splitlines())) <= 80
    seen = json.loads(by_state.stdout)
    assert {camera["name"]: camera["state"] for camera in seen["cameras"]} == {"gate": "down", "yard": "ok"}
    assert seen["broker"]["connected"]
    assert seen["outbox"]["lanes"]["P0"]["allocated"] > 0
    assert any(reason.startswith("broker: ") for reason in reasons)
    assert not (state / SOCKET).exists()
    gone = status("--state", state)
    assert (gone.returncode, len(gone.stderr.splitlines())) == (69, 1)
    for health in told:
        jsonschema.validate(health, SCHEMA)
    assert told[-1]["verdict"] == "degraded"
    assert told[-1]["cameras"]["gate"]["state"] == "down"
    assert not any(reason.startswith("broker") for health in told for reason in health["reasons"])
    assert len(told) < 20


def test_systemds_directory_is_found(tmp_path: Path) -> None:
    """With a runtime directory the socket is there; --state finds that agent, and takes no other for it."""
    runtime, state = tmp_path / "runtime", tmp_path / "state"
    runtime.mkdir()
    where = {"RUNTIME_DIRECTORY": str(runtime)}
    config = write(tmp_path / "c.toml", {"yard": sample_clip()}, sink=str(tmp_path / "e.jsonl"))
    with agent(config, **where):
        wait_for(lambda: asked(runtime).get("verdict") == "ok", HANGS_S, "the agent")
        assert not (state / SOCKET).exists()
        done = status("--state", state, "--json", **where)
        assert (done.returncode, json.loads(done.stdout)["verdict"]) == (0, "ok")
        assert status("--json", **where).returncode == 0
        assert status("--state", tmp_path / "other", **where).returncode == 69


def test_an_engine_that_hangs_is_stuck_and_one_that_comes_back_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict names the engine, for a watchdog and for people; the threads around it only wait."""
    hang, real = threading.Event(), engines.open_model

    class Hanging:
        def __init__(self, engine: Any) -> None:
            self._engine, self._runs = engine, 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self._engine, name)

        def infer(self, tensor: Any) -> Any:
            self._runs += 1
            if self._runs == 5:
                assert hang.wait(HANGS_S)
            return self._engine.infer(tensor)

    def opened(path: Path, **how: Any) -> Any:
        bundle, engine = real(path, **how)
        return bundle, Hanging(engine)

    seen: list[dict[str, Any]] = []

    def told(verdict: str) -> dict[str, Any]:
        answers: list[dict[str, Any]] = []
        wait_for(
            lambda: answers.append(asked(tmp_path)) or answers[-1].get("verdict") == verdict, HANGS_S, verdict
        )
        return answers[-1]

    def watch() -> None:
        try:
            seen.append(told("stuck"))
            hang.set()
            seen.append(told("ok"))
        finally:
            hang.set()
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(engines, "open_model", opened)
    monkeypatch.setattr(overlap, "Beat", partial(Beat, 2.0))
    clip = CameraConfig(name="c", source=str(sample_clip()))
    config = Config(camera=(clip,), device="t", state_dir=str(tmp_path), sink=str(tmp_path / "events"))
    observer = threading.Thread(target=watch)
    observer.start()
    run(RunOptions(config=config))
    observer.join(HANGS_S)
    stuck, well = seen
    assert stuck["reasons"] == [f"engine {STARTER}: infer takes longer than 2 s"]
    assert well["reasons"] == []


def test_a_stopped_agent_and_one_that_is_not_there(tmp_path: Path) -> None:
    """The first is to be restarted; of the second every place is named that was asked."""
    home = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    gone = status(**home)
    assert gone.returncode == 69
    assert str(tmp_path / "state" / "edge-agent") in gone.stderr
    command = [sys.executable, "-m", "agent", "run", "--source", str(sample_clip()), "--sink", os.devnull]
    # A user's first run, without a broker: the state directory is not there yet.
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **home}, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: asked(tmp_path / "state" / "edge-agent"), HANGS_S, "the agent")
        assert status(**home).returncode == 0
        process.send_signal(signal.SIGSTOP)
        hung = status(**home)
    finally:
        process.kill()
        process.communicate()
    assert hung.returncode == 69
    assert "restart it" in hung.stderr


def test_a_second_agent_on_a_state_directory_says_that_nobody_can_ask_it(tmp_path: Path) -> None:
    """One has a broker, one a sink: no lock is in their way, but there is one socket."""
    away = f"rtsp://127.0.0.1:{free_port()}/"
    config = write(tmp_path / "c.toml", {"yard": away}, sink=str(tmp_path / "e.jsonl"))
    clip = write_clip(tmp_path / "clip.mp4", even(10))
    with agent(config) as first:
        wait_for(lambda: asked(tmp_path / "state"), HANGS_S, "the agent")
        command = [sys.executable, "-m", "agent", "run", "--source", str(clip), "--sink", os.devnull]
        second = subprocess.run(
            [*command, "--pace", "fastest", "--state", str(tmp_path / "state")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=HANGS_S,
            check=False,
        )
        assert first.poll() is None
    assert second.returncode == 0
    assert "status` can't ask this agent: another agent answers" in second.stderr
