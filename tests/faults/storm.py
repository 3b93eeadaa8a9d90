"""A process that reports as busy cameras do, through the agent's own reporter, outbox and publisher, until killed.

`python -m tests.faults.storm --state DIR --port PORT --hz RATE`: a few objects a camera come, change and go. Every
half second a line of JSON on standard output tells the last numbers that were given out, and whether all of them
are known to be on disk. SIGTERM ends the open events, drains, and tells the accounts.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from agent import wire
from agent.messages import Event
from agent.mqtt.options import MqttOptions
from agent.outlet import open_outlet
from agent.reporting import EventReporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.outlet import Outlet

DEVICE = "storm"
CAMERAS = ("yard", "gate", "door")
_OBJECTS = 6  # at once, of each camera
_UPDATES = 3.0  # of each object, on average
_TICK_S = 0.01
_TELL_S = 0.5
_FLUSH_S = 0.8  # less than the outbox waits after a disk that refused, more than any healthy one takes
_MODEL = wire.Model("storm", 1, "0" * 64, "int8", "none")
_SAMPLING = wire.Sampling("uniform", 5.0, 0.2)


class Told:
    """An outbox that remembers the last number of each epoch and lane, and how long the slowest put took."""

    def __init__(self, outbox: Any) -> None:
        self._outbox = outbox
        self.last: dict[str, int] = {}
        self.slowest_s = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outbox, name)

    def put(self, *args: Any, **more: Any) -> Any:
        """Put, and remember."""
        begin_s = time.monotonic()
        message_id = self._outbox.put(*args, **more)
        self.slowest_s = max(self.slowest_s, time.monotonic() - begin_s)
        self.last[f"{message_id.epoch}/{message_id.lane.name}"] = message_id.seq
        return message_id


class Camera:
    """Objects that come, change and go before one camera; the same dice give the same lives."""

    def __init__(self, name: str, report: Callable[..., None], dice: random.Random) -> None:
        self._name, self._report, self._dice = name, report, dice
        self._there: dict[str, float] = {}  # since when, by event_id
        self._frame = 0

    def step(self, now_s: float) -> None:
        """Report one event."""
        comes = len(self._there) < _OBJECTS and self._dice.random() < 1 / (_UPDATES + 2)
        if comes or not self._there:
            event_id = str(UUID(int=self._dice.getrandbits(128), version=4))
            self._there[event_id] = now_s
            self._tell("new", event_id, now_s)
        else:
            event_id = self._dice.choice(list(self._there))
            ends = self._dice.random() < 1 / (_UPDATES + 1)
            self._tell("end" if ends else "update", event_id, now_s, "gone" if ends else None)

    def close(self, now_s: float) -> None:
        """End all that is there."""
        for event_id in list(self._there):
            self._tell("end", event_id, now_s, "shutdown")

    def _tell(self, kind: str, event_id: str, now_s: float, reason: str | None = None) -> None:
        self._frame += 1
        start_s = self._there[event_id]
        end_s = now_s if kind == "end" else None
        if kind == "end":
            del self._there[event_id]
        event = Event(
            kind,  # type: ignore[arg-type]
            event_id,
            self._name,
            "person",
            0.8,
            0.9,
            (0.1, 0.2, 0.3, 0.4),
            ("door",),
            False,
            start_s,
            now_s,
            end_s,
            reason,
        )
        facts = wire.FrameFacts(self._frame, self._frame / 10, now_s, 640, 480)
        count = len(self._there)
        self._report(facts, now_s, [event], {"person": (count, count)} if self._frame % 20 == 0 else {})


def cameras(outlet: Outlet, seed: int) -> list[Camera]:
    """Return the cameras of one process, each with a reporter of its own."""
    utc = lambda: wire.TimeBase(time.time() - time.monotonic(), synced=True)  # noqa: E731
    reporters = [
        EventReporter(outlet, camera=name, model=_MODEL, sampling=lambda: _SAMPLING, utc=utc)
        for name in CAMERAS
    ]
    dice = random.Random(seed)
    return [Camera(name, reporter.report, dice) for name, reporter in zip(CAMERAS, reporters, strict=True)]


def storm(outlet: Outlet, *, hz: float, count: int, seed: int, stop: threading.Event) -> int:
    """Report `hz` events a second until `stop`, or `count` of them (0: for ever); return how many."""
    told = Told(outlet.outbox)
    sources = cameras(dataclasses.replace(outlet, outbox=told), seed)  # type: ignore[arg-type]
    teller = threading.Thread(target=_tell_often, args=(told, stop), daemon=True)
    teller.start()
    begin_s, done = time.monotonic(), 0
    while not stop.is_set() and not (count and done >= count):
        now_s = time.monotonic()
        for _ in range(int((now_s - begin_s) * hz) - done):
            sources[done % len(sources)].step(now_s)
            done += 1
        stop.wait(_TICK_S)
    stop.set()
    teller.join()
    for source in sources:
        source.close(time.monotonic())
    _tell(told)
    return done


def _tell_often(told: Told, stop: threading.Event) -> None:
    while not stop.wait(_TELL_S):
        _tell(told)


def _tell(told: Told) -> None:
    """Tell the last numbers of this moment, and whether they are committed."""
    last, slowest_s = dict(told.last), told.slowest_s
    told.slowest_s = 0.0
    say(last=last, committed=told.flush(_FLUSH_S), slowest_put_ms=round(slowest_s * 1e3, 1))


def say(**what: object) -> None:
    """Print one line of JSON at once."""
    print(json.dumps(what), flush=True)


def main() -> int:
    """Report until SIGTERM, or --count events; then drain."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True, help="of the broker, on loopback")
    parser.add_argument("--hz", type=float, default=300.0)
    parser.add_argument("--count", type=int, default=0, help="events; 0: until SIGTERM")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-mbytes", type=int, default=64)
    parser.add_argument("--drain-s", type=float, default=60.0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d %(message)s", stream=sys.stderr)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    broker = MqttOptions("127.0.0.1", args.port, backoff_first_s=0.1, backoff_max_s=0.5)
    with open_outlet(
        device=DEVICE,
        topic_root="edge",
        broker=broker,
        sink="-",
        state_dir=args.state,
        max_bytes=args.max_mbytes << 20,
    ) as outlet:
        say(open=outlet.outbox.epoch)
        done = storm(outlet, hz=args.hz, count=args.count, seed=args.seed, stop=stop)
        drained = outlet.drain(args.drain_s)
        counts = {lane.name: dataclasses.asdict(c) for lane, c in outlet.outbox.counts().items()}
    say(end=done, drained=drained, counts=counts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
