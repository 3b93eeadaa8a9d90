"""Outbox, publisher and MQTT against real brokers, and death."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from agent import wire
from agent.collector import Collector
from agent.mqtt.options import MqttOptions
from agent.mqtt.transport import MqttTransport
from agent.outbox.ledger import Lane
from tests.e2e.brokers import Subscriber, amqtt, mosquitto, wait_for
from tests.e2e.sender import TOPICS, Sender, ids, lane_order_holds
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((Path(wire.__file__).parent / "schema/event-v1.schema.json").read_text())


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
        assert sender.outbox.flush(HANGS_S)
        assert sender.publisher.drain(HANGS_S)
        assert sender.publisher.state.protocol == "MQTT 5"
        counts = sender.outbox.counts()
        sender.close()
        wait_for(lambda: b"offline" in subscriber.payloads("/status")[-1], HANGS_S, "the farewell")
        got = subscriber.payloads("/events/")
    assert sorted(ids(got)) == sorted(sent)
    assert len(got) == 500
    assert lane_order_holds(ids(got))
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert not [e for p in got for e in validator.iter_errors(json.loads(p))]
    assert sum(c.confirmed for c in counts.values()) == 500
    states = [json.loads(p)["state"] for p in subscriber.payloads("/status")]
    assert set(states[:-1]) == {"online"}
    assert states[-1] == "offline"


def test_the_last_will_is_told_after_a_death(tmp_path: Path, broker: Any) -> None:
    """A connection that breaks leaves `offline` behind, retained."""
    with Subscriber(broker.port, "edge/+/status") as subscriber:
        sender = Sender(tmp_path, broker.port, backoff_first_s=60, backoff_max_s=60)
        wait_for(lambda: subscriber.messages, HANGS_S, "the birth")
        sock = sender.transport._client.socket()
        sock.shutdown(socket.SHUT_RDWR)
        wait_for(lambda: len(subscriber.messages) >= 2, HANGS_S, "the will")
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
            wait_for(lambda before=before: len(subscriber.messages) > before + 50, HANGS_S, "events to flow")
            broker.terminate()
            sent += sender.put(20)
            broker.start()
        assert sender.finish(HANGS_S)
        wait_for(lambda: len(ids(subscriber.payloads("/events/"))) == len(sent), HANGS_S, "all events")
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
        wait_for(lambda: sender.publisher.state.last_error, HANGS_S, "the first refusal")
        assert not sender.publisher.drain(0.3)
        broker.start()
        assert sender.finish()
        wait_for(lambda: len(subscriber.payloads("/events/")) >= 30, HANGS_S, "the events")
        assert sorted(ids(subscriber.payloads("/events/"))) == sorted(sent)
        assert set(subscriber.payloads("/state/yard/person")) == {b"2"}


def test_what_is_new_overtakes_what_piled_up(tmp_path: Path) -> None:
    """3,000 messages waited for the broker: of 10 new events each arrives while they drain, and all arrive."""
    with away(tmp_path) as (broker, subscriber):
        sender = Sender(tmp_path, broker.port)
        sent = sender.put(3000)
        assert sender.outbox.flush(HANGS_S)
        broker.start()
        wait_for(lambda: len(subscriber.payloads("/status")) >= 2, HANGS_S, "the birth of the new epoch")
        live = [sender.put(1, camera="gate")[0] for _ in range(10)]
        assert sender.finish(HANGS_S)
        wait_for(lambda: len(ids(subscriber.payloads("/events/"))) == 3010, HANGS_S, "all events")
        seen = ids(subscriber.payloads("/events/"))
    assert sorted(seen) == sorted(sent + live)
    assert lane_order_holds(seen)
    assert max(seen.index(name) for name in live) < 2990


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
        wait_for(lambda: len(subscriber.payloads("/events/")) >= 25, HANGS_S, "the events")
        assert sorted(ids(subscriber.payloads("/events/"))) == sorted(sent)
        birth = json.loads(subscriber.payloads("/status")[0])
    assert birth["previous"] == {"epoch": epoch, "last_seq": {"P0": 13, "P1": 7}}


def test_what_is_over_the_size_limit_of_mosquitto_is_a_dead_letter(tmp_path: Path) -> None:
    """It answers 0x95, which paho takes for a broken connection: one gap, and all others arrive, at once."""
    settings = "allow_anonymous true\nmessage_size_limit 2000"
    with mosquitto(tmp_path, settings=settings) as broker, Subscriber(broker.port) as subscriber:
        sender = Sender(tmp_path, broker.port)
        sender.put(3)
        sender.outbox.put(Lane.P0, TOPICS.events("yard"), lambda i: str(i).encode().ljust(3000))
        sender.put(3)
        assert sender.outbox.flush(HANGS_S)
        assert sender.publisher.drain(HANGS_S)
        state, counts = sender.publisher.state, sender.outbox.counts()
        sender.close()
        wait_for(lambda: len(subscriber.payloads("/events/")) == 6, HANGS_S, "the events")
        wait_for(lambda: subscriber.payloads("/gap"), HANGS_S, "the gap")
        gap = json.loads(subscriber.payloads("/gap")[0])
    assert (gap["count"], gap["reason"]) == (1, "rejected")
    assert (state.rejected, state.connections, counts[Lane.P0].rejected) == (1, 1, 1)


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
        wait_for(lambda: sender.publisher.state.denied_topics, HANGS_S, "the denial")
        wait_for(lambda: len(subscriber.payloads("/events/yard")) == 6, HANGS_S, "the others")
        assert not sender.publisher.drain(0.2)
        assert sum(c.queued for c in sender.outbox.counts().values()) == 4
        acl.write_text(rules + "topic readwrite edge/dev1/events/gate\n")
        broker.process.send_signal(signal.SIGHUP)
        assert sender.finish()
        wait_for(lambda: len(subscriber.payloads("/events/gate")) == 4, HANGS_S, "the held ones")
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
        wait_for(lambda: len(subscriber.payloads("/events/")) >= 40, HANGS_S, "the events")
    assert sorted(ids(subscriber.payloads("/events/"))) == sorted(sent)
    assert "MQTT 3.1.1 only" in caplog.text


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

    wait_for(hinted, HANGS_S, "the hint")
    for transport in both:
        transport.close()
    assert "(edge/d)" in caplog.text


WRITER = """
import sys
from pathlib import Path
from tests.e2e.sender import Sender
sender = Sender(Path(sys.argv[1]), int(sys.argv[2]))
while True:
    sender.put(50)
    sender.outbox.flush(5)
"""


def test_kill_9_of_the_publisher_loses_nothing_committed(tmp_path: Path, broker: Any) -> None:
    """Killed while it puts and sends: every row that was committed arrives, by the births' own account."""
    with Subscriber(broker.port, "edge/#") as subscriber:
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(broker.port)], cwd=ROOT)
        wait_for(lambda: len(subscriber.messages) > 200, HANGS_S, "events to flow")
        child.kill()
        child.wait()
        sender = Sender(tmp_path, broker.port)
        previous = sender.outbox.previous
        assert previous is not None
        assert previous.last_seq["P0"] > 0
        assert sender.finish()
        wait_for(lambda: b"offline" in subscriber.payloads("/status")[-1], HANGS_S, "the farewell")
    collector = Collector()
    for topic, payload, retained in subscriber.messages:
        collector.take(topic, payload, retained=retained)
    assert collector.missing() == []
    assert collector.totals.events > 100
    assert collector.totals.unreadable == 0
    assert lane_order_holds(ids(subscriber.payloads("/events/")))
