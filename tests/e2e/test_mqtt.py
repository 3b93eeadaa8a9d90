"""Outbox, publisher and MQTT against real brokers, a fake one, and death."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import msgspec
import pytest

from agent import messages, wire
from agent.broker import MqttOptions
from agent.ledger import Lane
from agent.mqtt import MqttTransport
from agent.outbox import Outbox
from agent.publisher import Publisher
from agent.topics import Topics
from agent.transport import Presence
from tests.e2e.brokers import FakeBroker, Subscriber, amqtt, mosquitto, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

TOPICS = Topics.of("dev1")
IDENTITY = wire.Identity("dev1", "boot")
ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((Path(wire.__file__).parent / "schema/event-v1.schema.json").read_text())


class Sender:
    """An outbox with a publisher for the broker at `port`."""

    def __init__(self, folder: Path, port: int, **options: Any) -> None:
        hold_s = options.pop("hold_s", 60.0)
        self.outbox = Outbox(folder / "outbox.db", device="dev1", gap_topic=TOPICS.gap)
        presence = Presence(
            TOPICS.status,
            birth=wire.encode_birth(
                IDENTITY, version="1", epoch=self.outbox.epoch, previous=self.outbox.previous
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

    def finish(self, timeout_s: float = 15.0) -> bool:
        """Drain and close; return whether all was confirmed."""
        assert self.outbox.flush(5)
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


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Any]:
    """Run a mosquitto."""
    with mosquitto(tmp_path) as running:
        yield running


def test_a_subscriber_gets_all_in_order_and_valid(tmp_path: Path, broker: Any) -> None:
    """500 events arrive once each by MQTT 5, in order within their lane, valid against the schema."""
    with Subscriber(broker.port) as subscriber:
        sender = Sender(tmp_path, broker.port)
        sent = sender.put(500)
        assert sender.outbox.flush(5)
        assert sender.publisher.drain(20)
        assert sender.publisher.state.protocol == "MQTT 5"
        counts = sender.outbox.counts()
        sender.close()
        wait_for(lambda: len(subscriber.payloads("/status")) == 2, 5, "the farewell")
        got = subscriber.payloads("/events/")
    assert sorted(ids(got)) == sorted(sent)
    assert len(got) == 500
    assert lane_order_holds(ids(got))
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert not [e for p in got for e in validator.iter_errors(json.loads(p))]
    assert sum(c.confirmed for c in counts.values()) == 500
    states = [json.loads(p)["state"] for p in subscriber.payloads("/status")]
    assert states == ["online", "offline"]


def test_the_last_will_is_told_after_a_death(tmp_path: Path, broker: Any) -> None:
    """A connection that breaks leaves `offline` behind, retained."""
    with Subscriber(broker.port, "edge/+/status") as subscriber:
        sender = Sender(tmp_path, broker.port, backoff_first_s=60, backoff_max_s=60)
        wait_for(lambda: subscriber.messages, 5, "the birth")
        sock = sender.transport._client.socket()
        sock.shutdown(socket.SHUT_RDWR)
        wait_for(lambda: len(subscriber.messages) >= 2, 5, "the will")
        sender.close()
    assert json.loads(subscriber.messages[1][1])["state"] == "offline"


def test_a_broker_that_restarts_midway_loses_nothing(tmp_path: Path) -> None:
    """Restarted twice while events flow: all arrive, in order within their lane."""
    settings = (
        f"allow_anonymous true\npersistence true\npersistence_location {tmp_path}/\nmax_queued_messages 0"
    )
    with (
        mosquitto(tmp_path, settings=settings) as broker,
        Subscriber(broker.port, "edge/+/events/#", session="keeper") as subscriber,
    ):
        sender, sent = Sender(tmp_path, broker.port), []
        for _ in range(2):
            before = len(subscriber.messages)
            sent += sender.put(400)
            wait_for(lambda before=before: len(subscriber.messages) > before + 50, 10, "events to flow")
            broker.terminate()
            sent += sender.put(20)
            broker.start()
        assert sender.finish(20)
        wait_for(lambda: len(ids(subscriber.payloads("/events/"))) == len(sent), 10, "all events")
        seen = ids(subscriber.payloads("/events/"))
    assert sorted(seen) == sorted(sent)
    assert lane_order_holds(seen)


@contextlib.contextmanager
def away(folder: Path) -> Iterator[tuple[Any, Subscriber]]:
    """Yield a broker that is down, and a subscriber for which it keeps messages once it is up."""
    settings = (
        f"allow_anonymous true\npersistence true\npersistence_location {folder}/\nmax_queued_messages 0"
    )
    with (
        mosquitto(folder, settings=settings) as broker,
        Subscriber(broker.port, session="keeper") as subscriber,
    ):
        broker.terminate()
        yield broker, subscriber


def test_a_broker_that_comes_later_gets_all(tmp_path: Path) -> None:
    """The broker is down at the start; what was put meanwhile arrives when it is up, retained state too."""
    with away(tmp_path) as (broker, subscriber):
        sender = Sender(tmp_path, broker.port)
        sent = sender.put(30)
        sender.publisher.retain(TOPICS.state("yard", "person"), b"1")
        sender.publisher.retain(TOPICS.state("yard", "person"), b"2")
        wait_for(lambda: sender.publisher.state.last_error, 5, "the first refusal")
        assert not sender.publisher.drain(0.3)
        broker.start()
        assert sender.finish()
        wait_for(lambda: len(subscriber.payloads("/events/")) >= 30, 10, "the events")
        assert sorted(ids(subscriber.payloads("/events/"))) == sorted(sent)
        assert set(subscriber.payloads("/state/yard/person")) == {b"2"}


def test_what_was_not_sent_is_sent_by_the_next_start(tmp_path: Path) -> None:
    """Drain gives up in time while the broker is away; the next start delivers, and names its forerunner."""
    with away(tmp_path) as (broker, subscriber):
        first = Sender(tmp_path, broker.port)
        sent, epoch = first.put(20), first.outbox.epoch
        assert first.finish(0.3) is False
        broker.start()
        second = Sender(tmp_path, broker.port)
        sent += second.put(5)
        assert second.finish()
        wait_for(lambda: len(subscriber.payloads("/events/")) >= 25, 10, "the events")
        assert sorted(ids(subscriber.payloads("/events/"))) == sorted(sent)
        birth = json.loads(subscriber.payloads("/status")[0])
    assert birth["previous"] == {"epoch": epoch, "last_seq": {"P0": 13, "P1": 7}}


def test_a_denied_topic_is_held_and_the_others_go_on(tmp_path: Path) -> None:
    """An access list that denies one camera: its row is kept, tried again, and delivered once allowed."""
    acl = tmp_path / "acl"
    rules = "topic readwrite edge/dev1/events/yard\ntopic readwrite edge/dev1/status\ntopic read #\n"
    acl.write_text(rules)
    acl.chmod(0o644)
    settings = f"allow_anonymous true\nacl_file {acl}"
    with mosquitto(tmp_path, settings=settings) as broker, Subscriber(broker.port) as subscriber:
        sender = Sender(tmp_path, broker.port, hold_s=0.3)
        denied = sender.put(4, camera="gate")
        allowed = sender.put(6)
        wait_for(lambda: sender.publisher.state.denied_topics, 5, "the denial")
        wait_for(lambda: len(subscriber.payloads("/events/yard")) == 6, 5, "the others")
        assert not sender.publisher.drain(0.2)
        assert sum(c.queued for c in sender.outbox.counts().values()) == 4
        acl.write_text(rules + "topic readwrite edge/dev1/events/gate\n")
        broker.process.send_signal(signal.SIGHUP)
        assert sender.finish()
        wait_for(lambda: len(subscriber.payloads("/events/gate")) == 4, 5, "the held ones")
    got = ids(subscriber.payloads("/events/gate"))
    for lane in ("/P0/", "/P1/"):
        assert [i for i in got if lane in i] == [i for i in denied if lane in i]
    assert len(got) == len(denied)
    assert sorted(ids(subscriber.payloads("/events/yard"))) == sorted(allowed)


@pytest.mark.parametrize("protocol", ["auto", "3.1.1"])
def test_amqtt_gets_all_by_3_1_1(tmp_path: Path, caplog: pytest.LogCaptureFixture, protocol: str) -> None:
    """A broker without MQTT 5, silent to a version 5 will, gets all; the log says what 3.1.1 hides."""
    with amqtt() as broker, Subscriber(broker.port) as subscriber:
        sender = Sender(tmp_path, broker.port, connect_timeout_s=1.0, protocol=protocol)
        sent = sender.put(40)
        assert sender.finish()
        wait_for(lambda: len(subscriber.payloads("/events/")) >= 40, 5, "the events")
    assert sorted(ids(subscriber.payloads("/events/"))) == sorted(sent)
    assert "MQTT 3.1.1 only" in caplog.text


V311_ACCEPTED = b"\x20\x02\x00\x00"
V5_ACCEPTED = b"\x20\x03\x00\x00\x00"


@pytest.mark.parametrize(
    "refusal", [b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00", b""], ids=["0x01", "0x84", "drops"]
)
def test_an_old_broker_gets_3_1_1(tmp_path: Path, refusal: bytes) -> None:
    """However a broker refuses version 5, it is tried with 3.1.1 and gets every event."""
    with FakeBroker(lambda level: refusal if level == 5 else V311_ACCEPTED) as broker:
        sender = Sender(tmp_path, broker.port)
        sender.put(10)
        assert sender.finish()
    assert broker.levels[:2] == [5, 4]
    assert len(broker.published) == 12


def test_a_silent_broker_is_given_up(tmp_path: Path) -> None:
    """A broker that accepts the connection and says nothing is left after the limit, and tried again."""
    with FakeBroker(lambda _: b"\xd0\x00\x00\x00") as broker:  # ping answers are no CONNACK
        sender = Sender(tmp_path, broker.port, connect_timeout_s=0.3)
        wait_for(lambda: sender.publisher.state.last_error, 5, "the limit")
        sender.close()


@pytest.mark.parametrize(
    ("code", "state"), [(0x97, "queued"), (0x99, "evicted"), (0x90, "evicted"), (0x10, "confirmed")]
)
def test_reason_codes_of_a_puback(tmp_path: Path, code: int, state: str) -> None:
    """Over quota is kept, a dead letter is given up and reported as a gap, nobody listening is delivered."""
    answer = lambda mid: struct.pack("!BBHB", 0x40, 3, mid, code if mid > 1 else 0)  # noqa: E731
    with FakeBroker(lambda _: V5_ACCEPTED, answer) as broker:
        sender = Sender(tmp_path, broker.port)
        sender.put(1)
        assert sender.outbox.flush(5)
        wait_for(lambda: any(b"/events/" in p for p in broker.published), 5, "the event")
        wait_for(lambda: getattr(sender.outbox.counts()[Lane.P0], state) == 1, 5, state)
        if code == 0x99:
            wait_for(lambda: any(b'"rejected"' in p for p in broker.published), 5, "the gap")
        sender.close()


def test_a_broker_that_drops_at_every_publish_is_not_hammered(tmp_path: Path) -> None:
    """A CONNACK alone does not shorten the wait before the next try."""
    with FakeBroker(lambda _: V5_ACCEPTED, lambda _: None) as broker:
        sender = Sender(tmp_path, broker.port, backoff_first_s=0.05, backoff_max_s=30)
        sender.put(1)
        wait_for(lambda: sender.transport._backoff._failures >= 4, 20, "some tries")
        sender.close()
    assert broker.published == []


def test_an_unknown_code_is_a_dead_letter_in_the_end(tmp_path: Path) -> None:
    """One event answered 0x80 again and again is given up and told; all others arrive."""

    def answer(mid: int) -> bytes:
        code = 0x80 if b'"event_id":"e2"' in broker.seen[-1] else 0
        return struct.pack("!BBHB", 0x40, 3, mid, code)

    with FakeBroker(lambda _: V5_ACCEPTED, answer) as broker:
        sender = Sender(tmp_path, broker.port)
        sender.put(6)
        assert sender.finish(30)
        counts = sender.outbox.counts()
    assert (counts[Lane.P0].evicted, sum(c.confirmed for c in counts.values())) == (1, 5)
    assert any(b'"rejected"' in p for p in broker.published)


TAKEN_OVER, TOO_LARGE = b"\xe0\x02\x8e\x00", b"\xe0\x02\x95\x00"


def test_a_name_that_two_use_is_told_and_not_fought_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Taken over again and again: one line says why and what to do, and the tries become rare."""
    with FakeBroker(lambda _: V5_ACCEPTED, lambda _: TAKEN_OVER) as broker:
        sender = Sender(tmp_path, broker.port, backoff_first_s=0.02, backoff_max_s=30, stable_s=0.0)
        wait_for(lambda: sender.transport._backoff._failures >= 3, 20, "some tries")
        sender.close()
    lines = [r.getMessage() for r in caplog.records if "same device name (edge/dev1)" in r.getMessage()]
    assert lines
    assert "another device name" in lines[0]


def test_a_name_that_two_use_shows_when_the_broker_says_nothing(
    broker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Mosquitto 2.0 ends the older connection without a word: the third short one in a row gives the hint."""
    options = MqttOptions(
        "127.0.0.1", broker.port, client_id="edge/d", backoff_first_s=0.01, backoff_max_s=0.02
    )
    both = [MqttTransport(options, rng=random.Random(n)) for n in (1, 2)]

    def hinted() -> bool:
        for transport in both:
            transport.poll(0.01)
        return "another device name" in caplog.text

    wait_for(hinted, 10, "the hint")
    for transport in both:
        transport.close()
    assert "(edge/d)" in caplog.text


def test_a_message_that_ends_the_connection_by_its_size_is_given_up(tmp_path: Path) -> None:
    """DISCONNECT 0x95: the largest under way is a dead letter, so that the others get through."""

    def answer(mid: int) -> bytes:
        return TOO_LARGE if len(broker.seen[-1]) > 5000 else struct.pack("!BBH", 0x40, 2, mid)

    with FakeBroker(lambda _: V5_ACCEPTED, answer) as broker:
        sender = Sender(tmp_path, broker.port, backoff_first_s=0.02, backoff_max_s=0.05)
        sender.put(3)
        sender.outbox.put(Lane.P0, TOPICS.events("yard"), lambda i: str(i).encode().ljust(9000))
        assert sender.finish(20)
        counts = sender.outbox.counts()
    assert (counts[Lane.P0].evicted, sum(c.confirmed for c in counts.values())) == (1, 3)
    assert any(b'"rejected"' in p for p in broker.published)


WRITER = """
import sys
from pathlib import Path
from tests.e2e.test_mqtt import Sender
sender = Sender(Path(sys.argv[1]), int(sys.argv[2]))
while True:
    sender.put(50)
    sender.outbox.flush(5)
"""


def test_kill_9_of_the_publisher_loses_nothing_committed(tmp_path: Path, broker: Any) -> None:
    """Killed while it puts and sends: every row that was committed arrives, in order within its lane."""
    with Subscriber(broker.port, "edge/+/events/#") as subscriber:
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(broker.port)], cwd=ROOT)
        wait_for(lambda: len(subscriber.messages) > 200, 20, "events to flow")
        child.kill()
        child.wait()
        sender = Sender(tmp_path, broker.port)
        previous = sender.outbox.previous
        assert previous is not None
        assert sender.finish()
        total = previous.last_seq["P0"] + previous.last_seq["P1"]
        wait_for(lambda: len(ids(subscriber.payloads("/events/"))) >= total, 10, "all that was committed")
        seen = ids(subscriber.payloads("/events/"))
    assert len(seen) == total
    assert lane_order_holds(seen)
