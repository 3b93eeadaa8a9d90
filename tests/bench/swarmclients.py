"""Many devices in one process, each with outbox, publisher and transport of its own.

It reads a command a line: `go` (events from now on), `hold` (no more of them), `report` (one line of JSON), `end`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import threading
import time
from pathlib import Path

from agent import messages, wire
from agent.metrics.stats import values
from agent.mqtt.options import MqttOptions
from agent.mqtt.transport import MqttTransport
from agent.outbox.ledger import Lane
from agent.outbox.outbox import Outbox
from agent.publisher import publisher
from agent.publisher.publisher import Publisher
from agent.topics import Topics
from agent.transport import Presence
from tests.unit.metrics_samples import SNAPSHOT

STATS_S = 30.0
PULSE_S = 5.0
"""How often an idle client looks at its connection. The agent does every second; here 1,000 share two cores."""
_MODEL = wire.Model("coco-centernet-320", 1, "0" * 64, "int8", "litert-xnnpack")
_SAMPLING = wire.Sampling("uniform", 5.0, 0.2)
_NUMBERS = {
    **values(SNAPSHOT),
    "edge_agent_inference_rate_total_hertz": 4.9,
    "edge_agent_inference_p50_seconds": 0.041,
    "edge_agent_inference_p95_seconds": 0.052,
    "edge_agent_hottest_celsius": 61.0,
    "edge_agent_drops_total": 12.0,
    "edge_agent_gaps_total": 0.0,
}
_HEALTH = {
    "schema": 1, "verdict": "ok", "reasons": [], "agent_version": "0.1.0",
    "model": {"name": "coco-centernet-320", "version": 1, "sha256": "0" * 64, "bundle_sha": "0" * 64,
              "source": "factory", "state": "factory"},
}  # fmt: skip


class Unjittered(random.Random):
    """Waits that are all as long as they may be: a fleet without jitter."""

    def uniform(self, a: float, b: float) -> float:
        """Return the upper bound."""
        return b


class Calm(MqttTransport):
    """The agent's transport, with a slower pulse."""

    def _until_due_s(self) -> float:
        return PULSE_S if self.link.connected else super()._until_due_s()


class Device:
    """One device: all of the way out that the agent has."""

    def __init__(self, folder: Path, name: str, port: int, *, jitter: bool) -> None:
        self._identity, self._topics = wire.Identity(name, "boot"), Topics.of(name)
        self.outbox = Outbox(
            folder / f"{name}.db", device=name, gap_topic=self._topics.gap, max_bytes=4 << 20
        )
        presence = Presence(
            self._topics.status,
            birth=lambda: wire.encode_birth(
                self._identity, version="0.1.0", epoch=self.outbox.epoch, before=self.outbox.before
            ),
            will=wire.encode_offline(self._identity, version="0.1.0", epoch=self.outbox.epoch),
        )
        rng = random.Random() if jitter else Unjittered()
        self.transport = Calm(MqttOptions("127.0.0.1", port), presence=presence, rng=rng)
        self.publisher = Publisher(self.outbox, self.transport, presence=presence)
        self.publisher.retain(self._topics.health, json.dumps(_HEALTH).encode())
        self.publisher.start()
        self.put_ids: list[str] = []

    def put(self) -> None:
        """Put one event."""
        number = len(self.put_ids)
        event = messages.Event(
            "new", f"e{number}", "yard", "person", 0.87, 0.9, (0.1, 0.2, 0.3, 0.4), (), False, 1.0, 2.0
        )

        def encode(message_id: object) -> bytes:
            return wire.encode_event(
                event,
                message_id=str(message_id),
                identity=self._identity,
                frame=wire.FrameFacts(number, number / 10, 5.0, 640, 480),
                now_s=5.1,
                model=_MODEL,
                sampling=_SAMPLING,
                time=wire.TimeBase(1.7e9, synced=True),
            )

        self.put_ids.append(str(self.outbox.put(Lane.P0, self._topics.events("yard"), encode)))

    def tell_stats(self) -> None:
        """Put the numbers, as the agent does twice a minute while it is connected."""
        if self.transport.link.connected:
            self.outbox.put(
                Lane.P2,
                self._topics.stats,
                lambda i: wire.encode_stats(
                    _NUMBERS, message_id=str(i), identity=self._identity, utc_s=time.time()
                ),
            )


class Ticker:
    """Puts events and numbers of all devices, evenly over time."""

    def __init__(self, devices: list[Device], hz: float) -> None:
        self._devices, self._hz = devices, hz
        self.going = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        began_s = time.monotonic()
        put = told = 0
        while True:
            time.sleep(0.05)
            passed_s = time.monotonic() - began_s
            share = len(self._devices) * passed_s
            while told < share / STATS_S:
                self._devices[told % len(self._devices)].tell_stats()
                told += 1
            while put < share * self._hz:
                if self.going.is_set():
                    self._devices[put % len(self._devices)].put()
                put += 1


def report(devices: list[Device], ids: Path) -> dict[str, float]:
    """Return how all stand; the ids of what was put go to the file `ids`."""
    ids.write_text("".join(f"{each}\n" for device in devices for each in list(device.put_ids)))
    return {
        "put": sum(len(device.put_ids) for device in devices),
        "queued": sum(device.outbox.state.queued for device in devices),
        "waiting": sum(device.outbox.state.queued > 0 for device in devices),
        "connected": sum(device.transport.link.connected for device in devices),
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "cpu_s": time.process_time(),
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
    }


def main() -> int:
    """Run devices until `end`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--hz", type=float, required=True)
    parser.add_argument("--no-jitter", action="store_true")
    given = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    threading.stack_size(256 << 10)
    publisher._POLL_S = PULSE_S
    devices = [
        Device(given.folder, f"dev{given.first + n:04}", given.port, jitter=not given.no_jitter)
        for n in range(given.count)
    ]
    ticker = Ticker(devices, given.hz)
    for line in sys.stdin:
        command = line.strip()
        if command == "go":
            ticker.going.set()
        elif command == "hold":
            ticker.going.clear()
        elif command == "report":
            print(json.dumps(report(devices, given.folder / f"ids-{given.first}")), flush=True)
        else:
            break
    os._exit(0)  # the broker tells the wills: what is measured is over


if __name__ == "__main__":
    sys.exit(main())
