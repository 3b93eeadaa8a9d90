"""The health thread: it survives what it meets, tells what changed, and falls silent at the end."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agent import monitor
from agent.camera import CameraOptions
from agent.config import CameraConfig, Config
from agent.engines import Engines
from agent.hardware import ThermalZone, Throttling
from agent.heartbeat import Heartbeat
from agent.lastwords import LastWords
from agent.monitor import Monitor
from agent.outlet import Outlet, open_outlet
from agent.systemd import PATIENCE_S, Systemd
from agent.throttle import Throttle
from agent.watch import Watch, complete
from tests.e2e.brokers import wait_for
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

AWAY = "rtsp://127.0.0.1:1/x"


class Seen(Systemd):
    """What is told on the health topic, in order; in place of systemd it counts the rounds of the thread."""

    def __init__(self, outlet: Outlet, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__({})
        self.told: list[dict[str, object]] = []
        self.rounds = 0
        self.looks: list[tuple[str, float]] = []
        monkeypatch.setattr(outlet.publisher, "retain", self._retain)

    def look(self, state: str, *args: Any, overdue_s: float = 0.0, **more: Any) -> None:
        self.rounds += 1
        self.looks.append((state, overdue_s))
        super().look(state, *args, overdue_s=overdue_s, **more)

    def more_rounds(self) -> None:
        """Wait until the thread has looked around some more times."""
        enough = self.rounds + 5
        wait_for(lambda: self.rounds >= enough, HANGS_S, "the health thread")

    def _retain(self, topic: str, payload: bytes) -> None:
        if topic.endswith("/health"):
            self.told.append(json.loads(payload))

    @property
    def verdicts(self) -> list[object]:
        return [health["verdict"] for health in self.told]


@contextmanager
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Watch, Monitor, Seen]]:
    """Yield a camera that is away, judged twenty times a second, and what is told of it."""
    monkeypatch.setattr(monitor, "PERIOD_S", 0.05)
    config = Config(camera=(CameraConfig(name="gate", source=AWAY),))
    with (
        Engines(threads=1, eager=False, tell=lambda _: None) as engines,
        open_outlet(device="t", topic_root="edge", broker=None, sink="-", state_dir=tmp_path) as outlet,
    ):
        seen = Seen(outlet, monkeypatch)
        watch = Watch(engines, outlet, CameraOptions(), ended=lambda _: None)
        words = LastWords(None)
        with Monitor(
            watch, engines, outlet, state_dir=tmp_path, systemd=seen, throttle=Throttle(), words=words
        ) as judge:
            watch.apply(complete(config))
            yield watch, judge, seen
            judge.leave()
            watch.stop(watch.cameras, "shutdown")


def test_only_what_changed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that starts, then is down: each told once, however often it is looked at."""
    with watched(tmp_path, monkeypatch) as (_, judge, seen):
        wait_for(lambda: "degraded" in seen.verdicts, HANGS_S, "the camera to be down")
        count = len(seen.told)
        seen.more_rounds()
        assert len(seen.told) == count
        assert judge.status().cameras[0].state == "down"
        judge.leave()
        seen.more_rounds()
        count = len(seen.told)
    assert len(seen.told) == count
    assert len({json.dumps(health | {"time": ""}, sort_keys=True) for health in seen.told}) == count


def test_heat_is_told_and_slows_sampling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device too hot is degraded, in words that stay the same from look to look, and its budget is lower."""
    heat = iter(range(1000))
    monkeypatch.setattr(
        monitor,
        "read_throttling",
        lambda: Throttling(zones=(ThermalZone("cpu-thermal", 79 + next(heat) / 1000, 80.0),)),
    )
    with watched(tmp_path, monkeypatch) as (_, judge, seen):
        wait_for(lambda: seen.told, HANGS_S, "the first verdict")
        seen.more_rounds()
        snapshot = judge.snapshot()
    assert (snapshot.budget.factor, snapshot.verdict) == (0.7, "degraded")
    reason = "device: too hot (cpu-thermal 79.0 C, slowed from 80 C): 70 % of the rate"
    assert all(reason in health["reasons"] for health in seen.told)


def test_a_fault_of_a_camera_s_state_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread goes on: it judges again once the fault is over."""
    real, faulty = Watch.tick, threading.Event()
    faulty.set()

    def tick(self: Watch, now_s: float) -> None:
        if faulty.is_set():
            raise RuntimeError("broken")
        real(self, now_s)

    monkeypatch.setattr(Watch, "tick", tick)
    with watched(tmp_path, monkeypatch) as (_, _, seen):
        wait_for(lambda: "health: can't look around" in caplog.text, HANGS_S, "the fault to be told")
        seen.more_rounds()
        assert caplog.text.count("health: can't look around") == 1
        assert seen.told == []
        faulty.clear()
        wait_for(lambda: seen.told, HANGS_S, "the first verdict")


class Leaping:
    """The time module, with a clock that can leap ahead as it does for a process that stood still."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s


def test_a_pause_of_the_process_is_not_a_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped for 22 s in the midst of an inference: it goes on, is fed; one that hangs then is found all the same."""
    clock = Leaping()
    begun_s = time.monotonic()
    monkeypatch.setattr(monitor, "time", clock)
    with watched(tmp_path, monkeypatch) as (_, _, seen):
        seen.more_rounds()
        monkeypatch.setattr(Engines, "beats", lambda _: [Heartbeat("engine m", "infer", begun_s)])
        clock.ahead_s = 22.0
        seen.more_rounds()
        assert "stuck" not in {state for state, _ in seen.looks}
        for _ in range(12):
            clock.ahead_s += 2.5
            seen.more_rounds()
        assert seen.looks[-1][0] == "stuck"
        assert seen.looks[-1][1] > PATIENCE_S
