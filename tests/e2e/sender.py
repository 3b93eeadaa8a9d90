"""The way out of a device as the agent has it, for tests: outbox, transport and publisher."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec

from agent import messages, wire
from agent.mqtt.options import MqttOptions
from agent.mqtt.transport import MqttTransport
from agent.outbox.ledger import Lane
from agent.outbox.outbox import Outbox
from agent.publisher.publisher import Publisher
from agent.topics import Topics
from agent.transport import Presence
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from pathlib import Path

TOPICS = Topics.of("dev1")
IDENTITY = wire.Identity("dev1", "boot")


class Sender:
    """An outbox with a publisher for the broker at `port`."""

    def __init__(self, folder: Path, port: int, **options: Any) -> None:
        hold_s = options.pop("hold_s", 60.0)
        self.outbox = Outbox(folder / "outbox.db", device="dev1", gap_topic=TOPICS.gap)
        presence = Presence(
            TOPICS.status,
            birth=lambda: wire.encode_birth(
                IDENTITY, version="1", epoch=self.outbox.epoch, before=self.outbox.before
            ),
            will=wire.encode_offline(IDENTITY, version="1", epoch=self.outbox.epoch),
        )
        options = {"backoff_first_s": 0.2, "backoff_max_s": 0.5, **options}
        self.transport = MqttTransport(
            MqttOptions("127.0.0.1", port, **options), presence=presence, rng=random.Random(1)
        )
        self.publisher = Publisher(
            self.outbox, self.transport, presence=presence, hold_s=hold_s, rng=random.Random(1)
        )
        self.publisher.start()

    def put(self, count: int, *, camera: str = "yard") -> list[str]:
        """Put events, every third an update; return their ids."""
        return [self._put(n, camera) for n in range(count)]

    def _put(self, n: int, camera: str) -> str:
        kind = "update" if n % 3 == 1 else "new"
        event = messages.Event(
            kind, f"e{n}", camera, "person", 0.87654, 0.9, (0.1, 0.2, 0.3, 0.4), (), False, 1.0, 2.0
        )
        encoded = lambda i: wire.encode_event(  # noqa: E731
            event,
            message_id=str(i),
            identity=IDENTITY,
            frame=wire.FrameFacts(n, n / 10, 5.0, 640, 480),
            now_s=5.1,
            model=wire.Model("m", 1, "0" * 64, "int8", "tflite"),
            sampling=wire.Sampling("uniform", 5.0, 0.2),
            time=wire.TimeBase(1.7e9, synced=True),
        )
        lane = Lane.P1 if kind == "update" else Lane.P0
        return str(self.outbox.put(lane, TOPICS.events(camera), encoded))

    def finish(self, timeout_s: float = HANGS_S) -> bool:
        """Drain and close; return whether all was confirmed."""
        assert self.outbox.flush(HANGS_S)
        done = self.publisher.drain(timeout_s)
        self.close()
        return done

    def close(self) -> None:
        """Stop and close."""
        self.publisher.stop()
        self.outbox.close()


def ids(payloads: list[bytes]) -> list[str]:
    """Return the message ids, each once, in the order of first arrival."""
    return list(dict.fromkeys(msgspec.json.decode(p)["id"] for p in payloads))


def lane_order_holds(seen: list[str]) -> bool:
    """Return whether the seq of each epoch and lane only goes up."""
    lanes: dict[str, list[int]] = {}
    for name in seen:
        head, _, seq = name.rpartition("/")
        lanes.setdefault(head, []).append(int(seq))
    return all(numbers == sorted(numbers) for numbers in lanes.values())
