"""The health thread: once a second the cameras' states move on, the clock is asked, and a new verdict is told."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from agent import __version__, clock, wire
from agent.hardware import Throttling, read_throttling
from agent.health import Verdict, judge
from agent.heartbeat import ROUND_S, Beat, Pauses
from agent.metrics.stats import values
from agent.modelhealth import model_health
from agent.outbox.ledger import Lane
from agent.sampled import take_snapshot
from agent.statussampled import take_status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from typing_extensions import Self

    from agent.camerahealth import CameraHealth
    from agent.defaultmodel import DefaultModel
    from agent.engines import Engines
    from agent.lastwords import LastWords
    from agent.metrics import Snapshot
    from agent.outlet import Outlet
    from agent.status import Status
    from agent.systemd import Systemd
    from agent.throttle import Throttle
    from agent.watch import Watch

log = logging.getLogger(__name__)

STARTED_S = time.monotonic()
"""When this process loaded the agent."""
PERIOD_S = ROUND_S
STATS_S = 30.0
_END_S = 5.0
"""Longest wait for the thread at the end."""


class Monitor:
    """Judges the agent once a second while the `with` block runs; its methods are for any thread.

    The model of cameras that name none is the `default` one, or that of the bundle `named`. `commands` tells what
    became of those that came over MQTT.
    """

    def __init__(
        self,
        watch: Watch,
        engines: Engines,
        outlet: Outlet,
        *,
        state_dir: Path,
        systemd: Systemd,
        throttle: Throttle,
        words: LastWords,
        default: DefaultModel | None = None,
        named: Path | None = None,
    ) -> None:
        self._default, self._named = default, named
        self.commands: Callable[[], Mapping[str, int]] = dict
        self._watch, self._engines, self._outlet = watch, engines, outlet
        self._state_dir, self._systemd, self._throttle, self._words = state_dir, systemd, throttle, words
        self._throttling, self._stats_s = Throttling(), 0.0
        self._beat, self._pauses = Beat(), Pauses()
        self._told: object = None
        self._faults: set[str] = set()
        self._leaving = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(_END_S)

    def leave(self) -> None:
        """From now on cameras end because they are told to: nothing is told of them, systemd alone hears."""
        self._leaving = True

    def verdict(self, now_s: float) -> Verdict:
        """Return how the agent does at `now_s`."""
        return self._judge(now_s, self._watch.health(), connected=self._outlet.publisher.state.connected)

    def snapshot(self) -> Snapshot:
        """Return all that the metrics tell."""
        now_s = time.monotonic()
        return take_snapshot(
            self._watch,
            self._engines,
            self._outlet,
            verdict=self.verdict(now_s).state,
            throttling=self._throttling,
            budget=self._throttle.budget,
            uptime_s=round(now_s - STARTED_S, 1),
            now_s=now_s,
            commands=self.commands(),
        )

    def status(self) -> Status:
        """Return all that `edge-agent status` tells."""
        now_s = time.monotonic()
        return take_status(
            self.snapshot(),
            self._watch,
            self._engines,
            self._outlet,
            verdict=self.verdict(now_s),
            model=self._model(),
            state_dir=self._state_dir,
            now_s=now_s,
        )

    # -- the thread --

    def _run(self) -> None:
        while True:
            now_s = time.monotonic()
            self._pauses.round(now_s)
            self._beat.begin("look around", now_s)
            if not self._leaving:
                self._guard("look at heat and power", partial(self._look_at_device, now_s))
                self._guard("look around", partial(self._look, now_s))
                self._guard("tell statistics", partial(self._tell_stats, now_s))
            self._guard("tell systemd", partial(self._tell_systemd, now_s))
            self._beat.wait()
            if self._stopping.wait(PERIOD_S):
                return

    def _guard(self, name: str, step: Callable[[], None]) -> None:
        """Do `step`; tell of a fault once and go on: without this thread nobody tells anything."""
        try:
            step()
        except Exception as fault:
            if name not in self._faults:
                log.error("health: can't %s: %s: %s; it goes on", name, type(fault).__name__, fault)
                log.debug("health: fault", exc_info=fault)
            self._faults.add(name)
        else:
            self._faults.discard(name)

    def _look(self, now_s: float) -> None:
        self._watch.tick(now_s)
        if not clock.clock_synced() and clock.look():
            log.info("the clock is synchronised")
        self._tell(now_s)

    def _look_at_device(self, now_s: float) -> None:
        before = self._throttle.budget
        self._throttling = read_throttling()
        budget = self._throttle.step(self._throttling, now_s)
        if budget is not before:
            log.warning("sampling: %s", budget.reason or "the whole rate again")

    def _tell_stats(self, now_s: float) -> None:
        """Send the numbers every half a minute while there is a broker; a file has no place for them."""
        publisher = self._outlet.publisher.state
        if now_s < self._stats_s + STATS_S or not publisher.connected or publisher.protocol == "file":
            return
        self._stats_s = now_s
        numbers, utc_s = values(self.snapshot()), now_s + clock.time_base().utc_offset_s
        self._outlet.outbox.put(
            Lane.P2,
            self._outlet.topics.stats,
            lambda message_id: wire.encode_stats(
                numbers, message_id=str(message_id), identity=self._outlet.identity, utc_s=utc_s
            ),
        )

    def _tell_systemd(self, now_s: float) -> None:
        """Feed the watchdog unless something is stuck; ready is who has inferred, or knows that no camera will come."""
        verdict = self.verdict(now_s)
        settled = all(health.state != "starting" for health in self._watch.health().values())
        overdue_s = max((now_s - beat.since_s - beat.deadline_s for beat in verdict.stuck), default=0.0)
        ready = settled or self._watch.inferred > 0
        self._engines.blame(verdict.stuck)
        self._words.look(verdict.state, verdict.reasons, now_s)
        self._systemd.look(verdict.state, verdict.reasons, ready=ready, overdue_s=overdue_s)

    def _tell(self, now_s: float) -> None:
        """Have the verdict on the health topic when it changed. Who reads it there sees that the broker is not away."""
        cameras = self._watch.health()
        verdict = self._judge(now_s, cameras, connected=True)
        publisher, outbox = self._outlet.publisher.state, self._outlet.outbox.state
        broker = wire.BrokerHealth(publisher.protocol, publisher.denied_topics, publisher.rejected)
        box = wire.OutboxHealth(outbox.durable, outbox.failing, outbox.repaired)
        model = self._model()
        told = verdict, cameras, broker, box, clock.clock_synced(), model
        if told == self._told:
            return
        self._told = told
        utc = clock.time_base()
        health = wire.Health(
            schema=wire.SCHEMA_VERSION,
            verdict=verdict.state,
            reasons=verdict.reasons,
            cameras={
                name: wire.CameraHealth(health.state, utc.utc(health.since_s), health.detail)
                for name, health in cameras.items()
            },
            broker=broker,
            outbox=box,
            clock_synced=utc.synced,
            time=utc.utc(now_s),
            agent_version=__version__,
            model=model,
        )
        self._outlet.publisher.retain(self._outlet.topics.health, msgspec.json.encode(health))

    def _model(self) -> wire.ModelHealth | None:
        return model_health(self._engines, self._named, self._default)

    def _judge(self, now_s: float, cameras: Mapping[str, CameraHealth], *, connected: bool) -> Verdict:
        outlet = self._outlet
        beats = [
            *(camera.beat.read(f"capture {camera.config.name}") for camera in self._watch.cameras),
            *self._engines.beats(),
            outlet.outbox.beat.read("outbox"),
            outlet.publisher.beat.read("publisher"),
            self._beat.read("health"),
        ]
        publisher = replace(outlet.publisher.state, connected=connected)
        return judge(
            map(self._pauses.without, beats),
            cameras=cameras,
            publisher=publisher,
            outbox=outlet.outbox.state,
            engines=self._engines.status(),
            given_up=self._default.given_up if self._default else "",
            budget=self._throttle.budget,
            now_s=now_s,
        )
