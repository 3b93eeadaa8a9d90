"""How fast a backlog drains through a real mosquitto, and how long what is new takes meanwhile.

    python -m tests.bench drain [--messages 100000] [--live-hz 5] [--json FILE]

The outbox is filled with events (one in ten begins or ends one, the others update), as after an outage; then
the broker is there. From then on a new event is put `--live-hz` times a second. A subscriber in a process of its
own notes when each message arrives, on the clock that both processes share. Targets: 200 messages a second, live
events within 2 s (p99).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from agent import wire
from agent.mqtt.options import MqttOptions
from agent.mqtt.transport import MqttTransport
from agent.outbox.ledger import Lane
from agent.outbox.outbox import Outbox
from agent.publisher.publisher import Publisher
from agent.topics import Topics
from agent.transport import Presence
from tests.e2e.brokers import mosquitto, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
EVENT_BYTES = 850
_BATCH = 2000
_LIMIT_S = 1800


@dataclass(frozen=True)
class Result:
    """What the subscriber saw. Latencies are from put to arrival."""

    messages: int
    missing: int
    duplicates: int
    seconds: float
    rate_hz: float
    live: int
    live_p50_ms: float
    live_p99_ms: float
    live_max_ms: float
    births: int


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--live-hz", type=float, default=5.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--subscribe", nargs=2, type=int, metavar=("PORT", "MESSAGES"), help=argparse.SUPPRESS
    )
    given = parser.parse_args()
    if given.subscribe:
        return subscribe(*given.subscribe)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), given.messages, given.live_hz)
    print(
        f"{result.messages} messages drained in {result.seconds:.1f} s: {result.rate_hz:.0f} a second; "
        f"{result.missing} missing, {result.duplicates} duplicates\n"
        f"{result.live} live events meanwhile: p50 {result.live_p50_ms:.0f} ms, p99 {result.live_p99_ms:.0f} ms, "
        f"at most {result.live_max_ms:.0f} ms"
    )
    if given.json:
        given.json.write_text(json.dumps(asdict(result), indent=2) + "\n")
    return 0


def measure(folder: Path, messages: int, live_hz: float) -> Result:
    """Fill an outbox in `folder`, drain it, and return what a subscriber saw."""
    topics = Topics.of("bench")
    settings = "allow_anonymous true\nmax_queued_messages 0"
    with (
        mosquitto(folder, settings=settings) as broker,
        subscriber(broker.port, messages) as watching,
        Outbox(folder / "outbox.db", device="bench", gap_topic=topics.gap, max_bytes=1 << 30) as outbox,
    ):
        fill(outbox, topics, messages)
        print(f"{messages} messages queued, {outbox.state.used_bytes / 1e6:.0f} MB", flush=True)
        identity = wire.Identity("bench", "boot")
        presence = Presence(
            topics.status,
            birth=lambda: wire.encode_birth(identity, version="0", epoch=outbox.epoch, before=outbox.before),
            will=wire.encode_offline(identity, version="0", epoch=outbox.epoch),
        )
        transport = MqttTransport(MqttOptions("127.0.0.1", broker.port), presence=presence)
        publisher = Publisher(outbox, transport, presence=presence)
        publisher.start()
        ended = threading.Event()
        threading.Thread(target=put_live, args=(outbox, topics, live_hz, ended), daemon=True).start()
        try:
            assert watching.stdout is not None
            return Result(**json.loads(watching.stdout.readline()))
        finally:
            ended.set()
            publisher.stop()


def fill(outbox: Outbox, topics: Topics, messages: int) -> None:
    """Put and commit `messages` events."""
    for n in range(messages):
        lane = Lane.P1 if n % 10 else Lane.P0
        outbox.put(lane, topics.events("yard"), lambda i: payload({"id": str(i)}))
        if n % _BATCH == 0:
            assert outbox.flush(60)
    assert outbox.flush(60)


def put_live(outbox: Outbox, topics: Topics, live_hz: float, ended: threading.Event) -> None:
    """Put an event every now and then, with the time in it."""
    while not ended.wait(1 / live_hz):
        put_s = time.monotonic()
        outbox.put(Lane.P0, topics.events("live"), lambda i, s=put_s: payload({"id": str(i), "put_s": s}))


def payload(content: dict[str, Any]) -> bytes:
    """Return `content`, as long as an event."""
    return json.dumps({**content, "pad": "x" * EVENT_BYTES}).encode()[:-1] + b"}"


@contextmanager
def subscriber(port: int, messages: int) -> Iterator[subprocess.Popen[str]]:
    """Run the subscriber; it is subscribed on entry."""
    command = [sys.executable, "-m", "tests.bench", "drain", "--subscribe", str(port), str(messages)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "subscribed\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def subscribe(port: int, messages: int) -> int:
    """Receive all of the backlog; print what was seen as JSON."""
    seen: set[str] = set()
    arrived_s: list[float] = []
    live_ms: list[float] = []
    births: list[bytes] = []
    duplicates = [0]

    def on_message(_client: object, _data: object, message: Any) -> None:
        now_s = time.monotonic()
        if message.topic.endswith("/status"):
            births.append(message.payload)
            return
        content = json.loads(message.payload)
        if content["id"] in seen:
            duplicates[0] += 1
            return
        seen.add(content["id"])
        if "put_s" in content:
            live_ms.append((now_s - content["put_s"]) * 1e3)
        else:
            arrived_s.append(now_s)

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda client, *_: client.subscribe("edge/bench/#", qos=1)
    client.on_subscribe = lambda *_: print("subscribed", flush=True)
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.loop_start()
    wait_for(lambda: len(arrived_s) >= messages, _LIMIT_S, "all messages")
    client.loop_stop()
    seconds = arrived_s[-1] - arrived_s[0]
    live_ms.sort()
    result = Result(
        messages=len(arrived_s),
        missing=messages - len(arrived_s),
        duplicates=duplicates[0],
        seconds=round(seconds, 2),
        rate_hz=round(len(arrived_s) / seconds, 1),
        live=len(live_ms),
        live_p50_ms=round(live_ms[len(live_ms) // 2], 1),
        live_p99_ms=round(live_ms[min(len(live_ms) - 1, len(live_ms) * 99 // 100)], 1),
        live_max_ms=round(live_ms[-1], 1),
        births=len(births),
    )
    print(json.dumps(asdict(result)), flush=True)
    return 0
