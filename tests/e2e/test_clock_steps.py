"""A real run while the wall clock jumps by years and seconds: only what is told of the time follows it."""

from __future__ import annotations

import mmap
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import pytest

from agent.control import ask
from agent.errors import ServiceAway
from agent.starter import sample_clip
from agent.status import read
from tests.bench.latency import clip_scene
from tests.e2e.brokers import free_port, mosquitto, wait_for
from tests.e2e.cameras.rtsp import RtspCamera
from tests.e2e.test_run import Subscriber, check_whole, subscribed
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SHIM = Path(__file__).with_name("wall_clock.c")
YEAR_S = 365 * 86400.0
JUMPS_S = (YEAR_S, -YEAR_S, 2.0, 0.0)
"""Shifts of the wall clock, one after the other: a year ahead, two back, one and 2 s ahead, 2 s back."""
NEAR_S = 5.0
"""Much more than an event is under way."""
RUNNER = """
import sys
from pathlib import Path
from agent import clock
clock.TIMESYNCD, clock.CHRONY = Path(sys.argv.pop(1)), ("127.0.0.1", 1)
from agent.cli import main
main()
"""


class Wall:
    """The wall clock of an agent: shifted by `shift`, set by a time server once `synchronise` was called."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("no C compiler is installed")
        self._library, self._marker = folder / "wall_clock.so", folder / "synchronized"
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", self._library, SHIM], check=True)
        self._file = folder / "shift"
        self._file.write_bytes(bytes(8))
        self.shifts: list[tuple[float, float]] = [(0.0, 0.0)]

    def shift(self, by_s: float) -> None:
        """Have the clock of the agent differ from the true one by `by_s` from now on."""
        with self._file.open("r+b") as file, mmap.mmap(file.fileno(), 8) as page:
            page[:] = struct.pack("q", round(by_s * 1e9))
        self.shifts.append((time.monotonic(), by_s))

    def synchronise(self) -> None:
        """Say, as systemd-timesyncd does, that the clock is set."""
        self._marker.touch()

    @contextmanager
    def agent(self, *arguments: object) -> Iterator[subprocess.Popen[str]]:
        """Run the agent with this clock."""
        environment = {**os.environ, "LD_PRELOAD": str(self._library), "WALL_SHIFT": str(self._file)}
        command = [sys.executable, "-c", RUNNER, str(self._marker), "run", "-v", *map(str, arguments)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def instant_s(text: str) -> float:
    """Return a time of the wire as seconds since 1970."""
    return datetime.fromisoformat(text.removesuffix("Z") + "+00:00").timestamp()


def true_s(event: dict[str, Any]) -> float:
    """Return when `event` was made, by the clock that does not jump."""
    return event["mono_ns"] / 1e9 + time.time() - time.monotonic()


def more_events(subscriber: Subscriber, count: int) -> None:
    """Wait until `count` more events have come."""
    enough = len(subscriber.events()) + count
    assert subscriber.wait_for(lambda: len(subscriber.events()) >= enough), "no more events came"


def stop(agent: subprocess.Popen[str]) -> str:
    """End it in order; return its log."""
    agent.send_signal(signal.SIGTERM)
    _, log = agent.communicate(timeout=HANGS_S)
    assert agent.returncode == 0, log
    return log


def test_no_timeout_no_event_and_no_order_goes_by_the_wall_clock(tmp_path: Path) -> None:
    """Over RTSP and MQTT: no reconnect, no event that ends for it, numbers and times in order, all delivered."""
    wall, clip = Wall(tmp_path), sample_clip()
    with av.open(str(clip)) as container:
        size = container.streams.video[0].width, container.streams.video[0].height
    with (
        mosquitto(tmp_path) as broker,
        subscribed(broker.port) as subscriber,
        RtspCamera(size=size, fps=10, gop=10, scene=clip_scene(clip)) as camera,
    ):
        address = ["--source", camera.url, "--broker", f"mqtt://127.0.0.1:{broker.port}"]
        with wall.agent(*address, "--device", "test", "--state", tmp_path / "state") as agent:
            more_events(subscriber, 4)
            for by_s in JUMPS_S:
                wall.shift(by_s)
                more_events(subscriber, 6)
            wall.synchronise()
            told = lambda: subscriber.events()[-1]["clock_synced"]  # noqa: E731
            assert subscriber.wait_for(told)
            log = stop(agent)
        assert subscriber.wait_for(lambda: subscriber.messages[-1][2].get("state") == "offline")
    events = subscriber.events()
    check_whole(events, "shutdown")
    assert {event["reason"] for event in events if event["type"] == "end"} <= {"lost", "shutdown"}
    statuses = [body["state"] for topic, _, body in subscriber.messages if topic == "edge/test/status"]
    assert statuses == ["online", "offline"]
    assert log.count("connected to") == 1, log
    assert "again" not in log, log
    for lane in ("P0", "P1"):
        made = [event["mono_ns"] for event in events if f"/{lane}/" in event["id"]]
        assert made == sorted(made)
    assert {event["clock_synced"] for event in events} == {False, True}
    check_times_follow(wall, events)


def check_times_follow(wall: Wall, events: list[dict[str, Any]]) -> None:
    """Check that each event tells the time of the wall clock as it stood when the event was made, or since."""
    seen = set()
    ends_s = [since_s for since_s, _ in wall.shifts[1:]] + [float("inf")]
    for event in events:
        made_s = event["mono_ns"] / 1e9
        since = [
            by_s for (_, by_s), end_s in zip(wall.shifts, ends_s, strict=True) if end_s > made_s - NEAR_S
        ]
        told_s = instant_s(event["time"]) - true_s(event)
        told = min(since, key=lambda by_s: abs(told_s - by_s))
        assert told_s == pytest.approx(told, abs=1.5)
        seen.add(told)
        assert instant_s(event["start_time"]) <= instant_s(event["time"])
    assert seen == set(JUMPS_S)


def test_what_was_made_before_the_clock_was_set_gets_its_true_time(tmp_path: Path) -> None:
    """Booted two years back and with no broker: once both are there, every event tells when it really was."""
    wall, port, state = Wall(tmp_path), free_port(), tmp_path / "state"
    wall.shift(-2 * YEAR_S)
    address = ["--source", sample_clip(), "--broker", f"mqtt://127.0.0.1:{port}", "--device", "test"]
    with wall.agent(*address, "--state", state) as agent:
        wait_for(lambda: asked(state) and asked(state).outbox.queued >= 8, HANGS_S, "events in the outbox")
        wall.shift(0.0)
        wall.synchronise()
        wait_for(lambda: asked(state).clock_synced, HANGS_S, "the agent to see that the clock is set")
        with mosquitto(tmp_path, port=port), subscribed(port) as subscriber:
            more_events(subscriber, 8)
            stop(agent)
            assert subscriber.wait_for(lambda: subscriber.messages[-1][2].get("state") == "offline")
    events = subscriber.events()
    check_whole(events, "shutdown")
    for event in events:
        assert event["clock_synced"] is True
        assert instant_s(event["time"]) == pytest.approx(true_s(event), abs=1.5)
        assert instant_s(event["start_time"]) <= instant_s(event["time"])


def asked(state: Path) -> Any:
    """Return what the agent with that state directory tells, None where none answers."""
    try:
        return read(ask(state, "status"))
    except ServiceAway:
        return None
