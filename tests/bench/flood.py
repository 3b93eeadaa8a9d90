"""How late events are while somebody who may send commands floods the device with them.

    python -m tests.bench flood [--seconds 20] [--qos 0] [--hz 20]

A device with its commands publishes begins of events `--hz` times a second through a real mosquitto; a sender in a
process of its own writes commands as fast as the broker takes them, a subscriber in another notes when each event
arrives, on the clock that all share. Before the flood, and during it. Target: p99 below 0.5 s.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from agent.outbox.ledger import Lane
from tests.e2e.brokers import mosquitto
from tests.e2e.commanded import Device
from tests.e2e.sender import TOPICS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
_CALM_S = 5.0
_PIECE = 500
_SETTLE_S = 10.0


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--qos", type=int, choices=(0, 1), default=0)
    parser.add_argument("--hz", type=float, default=20.0)
    parser.add_argument("--child", nargs=2, metavar=("listen|flood", "PORT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        name, port = given.child
        return listen(int(port)) if name == "listen" else flood(int(port), given.qos)
    with (
        tempfile.TemporaryDirectory() as folder,
        mosquitto(Path(folder)) as broker,
        child("listen", broker.port, given) as events,
        Device(Path(folder), broker.port) as device,
    ):
        put(device, given.hz, _CALM_S)
        with child("flood", broker.port, given):
            began_s = time.monotonic()
            put(device, given.hz, given.seconds)
            ended_s = time.monotonic()
        device.sender.publisher.drain(_SETTLE_S)
        time.sleep(1.0)
        received = device.commands.counts().get("received", 0)
        events.terminate()
        assert events.stdout is not None
        seen = json.loads(events.stdout.read())
    tell("before", [late for put_s, late in seen if put_s < began_s])
    tell("during", [late for put_s, late in seen if began_s <= put_s < ended_s])
    print(f"{received} commands came to the device")
    return 0


def put(device: Device, hz: float, seconds: float) -> None:
    """Put an event every now and then, with the time in it."""
    end_s = time.monotonic() + seconds
    while (now_s := time.monotonic()) < end_s:
        encoded = lambda i, s=now_s: json.dumps({"id": str(i), "put_s": s}).encode()  # noqa: E731
        device.sender.outbox.put(Lane.P0, TOPICS.events("live"), encoded)
        time.sleep(1 / hz)


def tell(when: str, late_s: list[float]) -> None:
    """Print how late events were."""
    ordered = sorted(late_s)
    p50, p99 = (ordered[min(len(ordered) - 1, len(ordered) * part // 100)] * 1e3 for part in (50, 99))
    print(
        f"{when}: {len(ordered)} events, p50 {p50:.0f} ms, p99 {p99:.0f} ms, at most {ordered[-1] * 1e3:.0f} ms"
    )


@contextlib.contextmanager
def child(name: str, port: int, given: argparse.Namespace) -> Iterator[subprocess.Popen[str]]:
    """Run a part of this program in a process of its own; it is at work on entry."""
    command = [
        sys.executable,
        "-m",
        "tests.bench",
        "flood",
        "--qos",
        str(given.qos),
        "--child",
        name,
        str(port),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def listen(port: int) -> int:
    """Note when each event arrives until it is terminated; print when it was put and how late it came."""
    seen: list[tuple[float, float]] = []

    def on_message(_client: object, _data: object, message: Any) -> None:
        put_s = json.loads(message.payload)["put_s"]
        seen.append((put_s, time.monotonic() - put_s))

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda client, *_: client.subscribe(TOPICS.events("live"), qos=1)
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.on_message = on_message
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    client.connect("127.0.0.1", port)
    client.loop_start()
    signal.sigwait({signal.SIGTERM})
    client.loop_stop()
    print(json.dumps(seen), flush=True)
    return 0


def flood(port: int, qos: int) -> int:
    """Send commands without end, as fast as the broker takes them."""
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    print("ready", flush=True)
    while True:
        for _ in range(_PIECE):
            client.publish(TOPICS.command, b'{"schema": 1}', qos)
        while client.want_write():
            time.sleep(0.001)


if __name__ == "__main__":
    sys.exit(main())
