"""Several cameras from one configuration: faults that stay with their camera, and changes while it runs."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import pytest

from agent.starter import sample_clip
from tests.e2e.brokers import free_port, mosquitto
from tests.e2e.test_run import check_whole, subscribed
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]

CLIP_S, WHOLE = 6, "camera yard: 60 frames: "


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the first 6 s of the sample clip."""
    short = tmp_path_factory.mktemp("clip") / "short.mp4"
    with av.open(str(sample_clip())) as source, av.open(str(short), "w") as target:
        video = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None and packet.pts * packet.time_base < CLIP_S:
                packet.stream = video
                target.mux(packet)
    return short


class Agent:
    """`edge-agent run --config` at work, line by line."""

    def __init__(self, config: Path) -> None:
        command = [sys.executable, "-m", "agent", "run", "-v", "--config", str(config)]
        self.process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._new: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            self._new.put(line)

    def wait_for(self, text: str) -> str:
        """Return the next line that holds `text`."""
        while True:
            try:
                line = self._new.get(timeout=HANGS_S)
            except queue.Empty:
                pytest.fail(f"no line with {text!r} in {self.lines}")
            if text in line:
                return line

    def reload(self) -> None:
        """Have it read its file again."""
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        """End it in order; return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(HANGS_S)
        self._reader.join(HANGS_S)
        return code


@contextmanager
def agent(config: Path) -> Iterator[Agent]:
    running = Agent(config)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def write(config: Path, cameras: dict[str, object], **device: object) -> Path:
    """Write a configuration of `cameras` (name: source) and return its path."""
    settings = {"device": "test", "state_dir": str(config.parent / "state"), **device}
    mqtt = settings.pop("port", None)
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    if mqtt:
        lines += ["[mqtt]", 'host = "127.0.0.1"', f"port = {mqtt}"]
    for name, source in cameras.items():
        lines += ["[[camera]]", f'name = "{name}"', f"source = {json.dumps(str(source))}"]
    config.write_text("\n".join(lines))
    return config


def events_of(path: Path, camera: str) -> list[dict[str, Any]]:
    """Return the events of `camera` in a sink."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    payloads = [row.get("payload", row) for row in rows]
    return [payload for payload in payloads if payload.get("camera") == camera]


def test_a_camera_that_fails_leaves_the_others_alone(tmp_path: Path, clip: Path) -> None:
    """A refusing camera and one that is no video are told once each and retried; the third sees its whole clip."""
    text = tmp_path / "shed.mp4"
    text.write_text("no video")
    sink = tmp_path / "events.jsonl"
    cameras = {"gate": f"rtsp://user:secret@127.0.0.1:{free_port()}/", "shed": text, "yard": clip}
    config = write(tmp_path / "c.toml", cameras, sink=str(sink))
    config.chmod(0o600)
    with agent(config) as running:
        summary = running.wait_for(WHOLE)
        assert running.process.poll() is None, "the cameras that are away are still waited for"
        assert running.stop() == 0
    inferred = int(summary.partition(WHOLE)[2].split()[0])
    assert inferred >= 10, "the others slow it down"
    told = [line for line in running.lines if "warning" in line and "agent.captureloop" in line]
    assert len([line for line in told if "camera gate" in line]) == 1
    assert len([line for line in told if "camera shed" in line]) == 1
    assert "secret" not in "".join(running.lines)
    events = events_of(sink, "yard")
    assert {event["type"] for event in events} >= {"new", "end"}
    check_whole(events, "end_of_stream")


def test_reload_changes_cameras_and_leaves_the_others_alone(tmp_path: Path) -> None:
    """SIGHUP ends a camera that is gone, starts a new one, and what is unchanged goes on; bad files change nothing."""
    config = tmp_path / "c.toml"
    with mosquitto(tmp_path) as broker, subscribed(broker.port) as subscriber:
        write(config, {"yard": sample_clip(), "door": sample_clip()}, port=broker.port)
        with agent(config) as running:
            assert subscriber.wait_for(lambda: {e["camera"] for e in subscriber.events()} == {"yard", "door"})
            write(config, {"yard": sample_clip(), "porch": sample_clip()}, port=broker.port)
            running.reload()
            running.wait_for("reloaded: new: porch; gone: door")
            for bad in ("no toml", "camera = []\nunknown = 1", config.read_text().replace("porch", "a/b")):
                config.write_text(bad)
                running.reload()
                running.wait_for("reload: ")
            assert subscriber.wait_for(lambda: any(e["camera"] == "porch" for e in subscriber.events()))
            assert running.stop() == 0
        events = subscriber.events()
        assert subscriber.wait_for(lambda: subscriber.events()[-1]["type"] == "end")
    by_camera = {name: [e for e in events if e["camera"] == name] for name in ("yard", "door", "porch")}
    assert {e["reason"] for e in by_camera["door"] if e["type"] == "end"} <= {"reload", "lost"}
    assert by_camera["door"][-1]["reason"] == "reload"
    assert "reload" not in {e["reason"] for e in by_camera["yard"]}, "yard was not disturbed"
    assert len({e["id"].split("/")[1] for e in events}) == 1, "one epoch: the outbox stayed open"


def test_reload_of_the_device_s_own_settings_starts_anew(tmp_path: Path, clip: Path) -> None:
    """Another device name: open events end with reason reload, and the same process goes on under the new name."""
    config, sink = tmp_path / "c.toml", tmp_path / "events.jsonl"
    write(config, {"yard": clip}, sink=str(sink))
    with agent(config) as running:
        running.wait_for("connected to")
        write(config, {"yard": clip}, sink=str(sink), device="renamed")
        running.reload()
        running.wait_for("starting anew as renamed")
        running.wait_for(WHOLE)
        assert running.process.wait(HANGS_S) == 0


def test_a_reload_that_can_t_start_goes_back(tmp_path: Path, clip: Path) -> None:
    """A sink that can't be written is found when the old one is closed: the configuration before it returns."""
    config, sink = tmp_path / "c.toml", tmp_path / "events.jsonl"
    write(config, {"yard": clip}, sink=str(sink))
    with agent(config) as running:
        running.wait_for("connected to")
        write(config, {"yard": clip}, sink=str(tmp_path / "no" / "such" / "dir.jsonl"))
        running.reload()
        running.wait_for("starting anew")
        running.wait_for("dir.jsonl")
        running.wait_for(WHOLE)
        assert running.process.wait(HANGS_S) == 0


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--config", "c.toml", "--source", "a.mp4"], "together"),
        (["--config", "c.toml", "--label", "person"], "--label"),
        (["--camera", "yard"], "--camera"),
    ],
)
def test_options_of_one_source_do_not_go_with_a_configuration(options: list[str], word: str) -> None:
    """Half of each is a mistake of the command line, and told as one."""
    command = [sys.executable, "-m", "agent", "run", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS_S, check=False)
    assert done.returncode == 2
    assert word in done.stderr
    assert len(done.stderr.splitlines()) == 1
