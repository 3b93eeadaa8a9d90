"""`edge-agent run` as a user runs it, with a real broker and a real subscriber."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import paho.mqtt.client as mqtt
import pytest

from agent import wire
from agent.starter import sample_clip
from tests.e2e.brokers import free_port, mosquitto
from tests.patience import HANGS_S

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((Path(wire.__file__).parent / "schema" / "event-v1.schema.json").read_text())


class Subscriber:
    """Keeps what it receives, in order: (topic, retained, payload)."""

    def __init__(self, port: int) -> None:
        self.messages: list[tuple[str, bool, dict[str, Any]]] = []
        self.arrived = threading.Condition()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self.client.on_message = self._on_message
        ready = threading.Event()
        self.client.on_connect = lambda *_: self.client.subscribe("edge/test/#", qos=1) and None
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert ready.wait(HANGS_S)

    def _on_message(self, client: Any, data: Any, message: mqtt.MQTTMessage) -> None:
        if not message.payload:  # a retained value was taken back
            return
        with self.arrived:
            self.messages.append((message.topic, message.retain, json.loads(message.payload)))
            self.arrived.notify_all()

    def events(self) -> list[dict[str, Any]]:
        return [payload for topic, _, payload in self.messages if "/events/" in topic]

    def wait_for(self, condition: Any) -> bool:
        with self.arrived:
            return self.arrived.wait_for(condition, HANGS_S)


@contextlib.contextmanager
def subscribed(port: int) -> Iterator[Subscriber]:
    subscriber = Subscriber(port)
    try:
        yield subscriber
    finally:
        subscriber.client.disconnect()
        subscriber.client.loop_stop()


def command(port: int, state: Path, *more: object) -> list[str]:
    fixed = ["--source", sample_clip(), "--broker", f"mqtt://127.0.0.1:{port}", "--device", "test"]
    return [sys.executable, "-m", "agent", "run", *map(str, [*fixed, "--state", state, *more])]


def lives(events: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the types of each event's messages in the order of arrival."""
    types: dict[str, list[str]] = {}
    for event in events:
        types.setdefault(event["event_id"], []).append(event["type"])
    return types


def check_whole(events: list[dict[str, Any]], reason: str) -> None:
    """Check that every event is valid, begins and ends, and that no number is missing."""
    for event in events:
        jsonschema.validate(event, SCHEMA)
    for types in lives(events).values():
        assert types[0] == "new"
        assert types[-1] == "end"
        assert set(types[1:-1]) <= {"update"}
    for lane in ("P0", "P1"):
        numbers = [int(event["id"].rpartition("/")[2]) for event in events if f"/{lane}/" in event["id"]]
        assert numbers == list(range(1, len(numbers) + 1))
    assert events[-1]["reason"] == reason


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with mosquitto(tmp_path) as broker:
        yield broker.port


def test_a_subscriber_gets_the_life_of_every_event(port: int, tmp_path: Path) -> None:
    """Through a real broker: new, update, end of each, in order, valid, complete; presence and states as well."""
    with subscribed(port) as subscriber:
        subprocess.run(
            command(port, tmp_path / "state", "--pace", "fastest"), cwd=ROOT, check=True, timeout=HANGS_S
        )
        gone = {"topic": "edge/test/status", "state": "offline"}
        assert subscriber.wait_for(
            lambda: (
                (subscriber.messages[-1][0], subscriber.messages[-1][2].get("state")) == tuple(gone.values())
            )
        )
    events = subscriber.events()
    assert len(lives(events)) > 10
    assert any("update" in types for types in lives(events).values())
    check_whole(events, "end_of_stream")
    told = [payload["state"] for topic, _, payload in subscriber.messages if topic == "edge/test/status"]
    assert told == ["online", "offline"]
    states = [p for topic, _, p in subscriber.messages if topic == "edge/test/state/camera/person"]
    assert max(state["count"] for state in states) > 3
    assert states[-1]["count"] == 0


def test_a_broker_that_is_away_means_exit_75_and_the_next_start_delivers(tmp_path: Path) -> None:
    """What could not be sent is kept and said; a later run with the same state brings it."""
    port = free_port()
    state = tmp_path / "state"
    away = command(port, state, "--pace", "fastest", "--drain-s", "0.5")
    done = subprocess.run(away, cwd=ROOT, capture_output=True, text=True, timeout=HANGS_S, check=False)
    assert done.returncode == 75
    assert "kept in" in done.stderr.splitlines()[-1]
    with mosquitto(tmp_path, port=port), subscribed(port) as subscriber:
        again = command(port, state, "--pace", "fastest", "--sample", "interval:100")
        subprocess.run(again, cwd=ROOT, check=True, timeout=HANGS_S)
        assert subscriber.wait_for(lambda: subscriber.messages[-1][2].get("state") == "offline")
    epochs = list(dict.fromkeys(event["id"].split("/")[1] for event in subscriber.events()))
    first = [event for event in subscriber.events() if f"/{epochs[0]}/" in event["id"]]
    numbers = sorted(int(event["id"].rpartition("/")[2]) for event in first if "/P0/" in event["id"])
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 20


def test_sigterm_ends_the_open_events_and_exits_0(port: int, tmp_path: Path) -> None:
    """A stop in the middle of the clip: every open event gets its end, with the reason, and it is delivered."""
    with subscribed(port) as subscriber:
        agent = subprocess.Popen(command(port, tmp_path / "state"), cwd=ROOT)
        try:
            assert subscriber.wait_for(lambda: len(subscriber.events()) >= 5)
            agent.send_signal(signal.SIGTERM)
            assert agent.wait(HANGS_S) == 0
        finally:
            agent.kill()
            agent.wait()
        assert subscriber.wait_for(lambda: subscriber.messages[-1][2].get("state") == "offline")
    check_whole(subscriber.events(), "shutdown")


def test_detections_and_tracks_are_written_for_every_inferred_frame(tmp_path: Path) -> None:
    """--detections has one line a frame with boxes 0..1 down to --min-score; --mot counts frames from 1."""
    detections, tracks, sink = tmp_path / "d.jsonl", tmp_path / "t.txt", tmp_path / "e.jsonl"
    files = ["--detections", detections, "--mot", tracks, "--sink", sink, "--state", tmp_path / "s"]
    fixed = ["run", "--source", sample_clip(), "--pace", "fastest", "--sample", "interval:2"]
    arguments = [*map(str, [*fixed, *files, "--min-score", "0.2", "--camera", "yard"])]
    subprocess.run([sys.executable, "-m", "agent", *arguments], cwd=ROOT, check=True, timeout=HANGS_S)
    lines = [json.loads(line) for line in detections.read_text().splitlines()]
    assert [line["seq"] for line in lines] == list(range(0, 200, 2))
    assert lines[50]["pts_s"] == pytest.approx(10.0)
    assert all(line["camera"] == "yard" for line in lines)
    found = [detection for line in lines for detection in line["detections"]]
    assert all(0 <= c <= 1 for detection in found for c in detection["box"])
    assert min(detection["score"] for detection in found) >= 0.2
    frames = {int(line.split(",")[0]) for line in tracks.read_text().splitlines()}
    assert frames <= {line["seq"] + 1 for line in lines}
    assert len(frames) > 90
