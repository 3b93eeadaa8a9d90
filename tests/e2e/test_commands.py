"""Commands over real brokers: what `edge-agent command` sends and hears, and what is bad, retained or too much."""

from __future__ import annotations

import json
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.cli import cli
from agent.commands.asking import Request
from agent.errors import NotPermitted, ServiceAway, TryAgain
from agent.mqtt.options import MqttOptions
from agent.mqtt.receiving import FLOOD
from agent.transport import Received
from tests.e2e.brokers import FakeBroker, Subscriber, amqtt, free_port, mosquitto, packet_length, wait_for
from tests.e2e.commanded import Device
from tests.e2e.sender import TOPICS, Sender, ids
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.brokers import Process


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Process]:
    """Run mosquitto."""
    with mosquitto(tmp_path) as process:
        yield process


def ask(port: int, op: str, timeout_s: float = HANGS_S, device: str = "dev1", **args: Any) -> Any:
    """Send one command and return its last answer."""
    topics = type(TOPICS).of(device)
    return Request(MqttOptions("127.0.0.1", port), topics, op, args, timeout_s=timeout_s).run()


def run(port: int, *args: str) -> Any:
    """Run `edge-agent command`; return its exit code and both outputs."""
    return CliRunner().invoke(cli, ["command", "--broker", f"mqtt://127.0.0.1:{port}", *args])


def test_the_command_line(broker: Process, tmp_path: Path) -> None:
    """Done is 0 with the result on stdout, failed and rejected are 1 with the reason; progress goes to stderr."""
    with Device(tmp_path, broker.port):
        done = run(broker.port, "dev1", "camera.enable", "camera=yard", "n=2.5")
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout) == {"did": "camera.enable", "camera": "yard", "n": 2.5}
        assert "accepted" in done.stderr
        failed = run(broker.port, "dev1", "breaks", "--json")
        assert failed.exit_code == 1
        assert json.loads(failed.stdout)["state"] == "failed"
        assert "broken" in failed.stderr
        unknown = run(broker.port, "dev1", "reboot")
        assert (unknown.exit_code, unknown.stdout) == (1, "")
        assert "rejected: unknown" in unknown.stderr


def test_without_a_device_or_broker(broker: Process) -> None:
    """Nobody listens: 75 at once, by the broker's word; no broker: 69; a bad argument: 2."""
    away = run(broker.port, "nobody", "status")
    assert away.exit_code == 75 or isinstance(away.exception, TryAgain)
    with pytest.raises(TryAgain, match="nobody listens"):
        ask(broker.port, "status", device="nobody")
    with pytest.raises(ServiceAway):
        ask(free_port(), "status")


def test_no_answer_in_time(broker: Process) -> None:
    """Another reads the topic, and none answers."""
    with Subscriber(broker.port), pytest.raises(TryAgain, match=r"no answer within 0\.5 s"):
        ask(broker.port, "status", timeout_s=0.5)


def test_several_at_once_get_their_own_answers(broker: Process, tmp_path: Path) -> None:
    """Requests of several clients cross; status is answered while another command is at work."""
    answers: dict[int, Any] = {}
    with Device(tmp_path, broker.port) as device:
        slow = threading.Thread(target=lambda: answers.setdefault(99, ask(broker.port, "slow", n=99)))
        slow.start()
        wait_for(lambda: device.operations.done, HANGS_S, "the slow one to begin")
        assert ask(broker.port, "status").result["verdict"] == "ok"
        threads = [
            threading.Thread(target=lambda n=n: answers.setdefault(n, ask(broker.port, "camera.enable", n=n)))
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        assert not answers
        device.operations.go.set()
        for thread in (slow, *threads):
            thread.join(HANGS_S)
    assert {n: answer.result["n"] for n, answer in answers.items()} == {n: n for n in (0, 1, 2, 3, 99)}


def test_an_answer_overtakes_a_backlog(broker: Process, tmp_path: Path) -> None:
    """With thousands of events waiting a command is answered before they are out, and none of them is lost."""
    with Subscriber(broker.port, "edge/dev1/#") as everything, Device(tmp_path, broker.port) as device:
        sent = device.sender.put(3000)
        answer = ask(broker.port, "status")
        assert answer.state == "done"
        assert device.sender.publisher.drain(HANGS_S)
        wait_for(lambda: len(everything.payloads("/events/")) >= len(sent), HANGS_S, "all events")
    topics = [topic for topic, _, _ in everything.messages]
    last = max(n for n, topic in enumerate(topics) if "/events/" in topic)
    assert any("/command/result/" in topic for topic in topics[:last])


def test_a_lost_answer_is_had_by_asking_again(broker: Process, tmp_path: Path) -> None:
    """The same id after the connection was lost: done once, answered as before."""
    with Device(tmp_path, broker.port) as device:
        request = Request(
            MqttOptions("127.0.0.1", broker.port), TOPICS, "camera.enable", {}, timeout_s=HANGS_S
        )
        first = request.run()
        request._answer = None
        assert request.run() == first
        assert len(device.operations.done) == 1
        assert device.commands.counts()["rejected_replayed"] == 1


def publisher(port: int, **more: Any) -> Client:
    """Return a connected client of paho's own."""
    client = Client(CallbackAPIVersion.VERSION2, **more)
    client.connect("127.0.0.1", port)
    client.loop_start()
    wait_for(client.is_connected, HANGS_S, "the connection")
    return client


@pytest.mark.parametrize("protocol", ["auto", "3.1.1"])
def test_bad_messages_are_rejected_counted_and_survived(
    broker: Process, tmp_path: Path, protocol: str
) -> None:
    """A retained one, bytes that are no JSON, deep JSON, 20 kB; then a good one is done."""
    with Device(tmp_path, broker.port, protocol=protocol) as device:
        client = publisher(broker.port)
        bad = {
            "malformed": [b"\xff\xfe", b"[" * 9000, b'{"id": 7}'],
            "oversize": [b"x" * 20_000],
        }
        for payloads in bad.values():
            for payload in payloads:
                client.publish(TOPICS.command, payload, qos=1).wait_for_publish(HANGS_S)
        expected = {"rejected_malformed": 3, "rejected_oversize": 1}
        if protocol == "auto":  # a broker of 3.1.1 passes on a retained message as one that is not
            client.publish(TOPICS.command, b"{}", qos=1, retain=True).wait_for_publish(HANGS_S)
            expected["rejected_retained"] = 1
        wait_for(lambda: expected.items() <= device.commands.counts().items(), HANGS_S, "the rejections")
        assert ask(broker.port, "status").state == "done"
        client.disconnect()
        client.loop_stop()


def test_what_was_retained_before_is_not_done(broker: Process, tmp_path: Path) -> None:
    """With MQTT 5 it does not even come, with 3.1.1 it is rejected at every connect."""
    client = publisher(broker.port)
    client.publish(TOPICS.command, b"{}", qos=1, retain=True).wait_for_publish(HANGS_S)
    for protocol, count in (("auto", 0), ("3.1.1", 1)):
        folder = tmp_path / protocol
        folder.mkdir()
        with Device(folder, broker.port, protocol=protocol) as device:
            assert ask(broker.port, "status").state == "done"
            assert device.commands.counts().get("rejected_retained", 0) == count
    client.disconnect()
    client.loop_stop()


@pytest.mark.parametrize("protocol", ["auto", "3.1.1"])
def test_ten_megabytes_do_no_harm(broker: Process, tmp_path: Path, protocol: str) -> None:
    """A broker of MQTT 5 keeps them back; at one of 3.1.1 the connection is given up. Both go on."""
    with Device(tmp_path, broker.port, protocol=protocol) as device:
        client = publisher(broker.port)
        client.publish(TOPICS.command, bytes(10 << 20), qos=1).wait_for_publish(HANGS_S)
        state = lambda: device.sender.publisher.state  # noqa: E731
        if protocol == "3.1.1":
            wait_for(lambda: state().connections == 2, HANGS_S, "another connection")
        wait_for(lambda: device.listens and state().connected, HANGS_S, "the subscription")
        assert ask(broker.port, "status").state == "done"
        assert state().connections == (1 if protocol == "auto" else 2)
        client.disconnect()
        client.loop_stop()


@pytest.mark.parametrize("qos", [0, 1])
def test_a_flood_leaves_the_events_alone(broker: Process, tmp_path: Path, qos: int) -> None:
    """The topic is left alone after so many, on a new connection; every event arrives, and no farewell is told."""
    with (
        Subscriber(broker.port, "edge/dev1/events/#") as events,
        Subscriber(broker.port, TOPICS.status) as statuses,
        Device(tmp_path, broker.port) as device,
    ):
        client = publisher(broker.port)
        sent = device.sender.put(200)
        state = lambda: device.sender.publisher.state  # noqa: E731
        flood = threading.Thread(
            target=lambda: [client.publish(TOPICS.command, b"{}", qos) for _ in range(20_000)]
        )
        flood.start()
        wait_for(lambda: state().connections == 2 and state().connected, HANGS_S, "a new connection")
        sent += device.sender.put(200)
        flood.join(HANGS_S)
        assert device.sender.outbox.flush(HANGS_S)
        assert device.sender.publisher.drain(HANGS_S)
        wait_for(lambda: set(ids(events.payloads("events"))) >= set(sent), HANGS_S, "all events")
        assert state().connections == 2
        assert state().unread_topics == (TOPICS.command,)
        assert FLOOD <= device.commands.counts()["received"] < 20_000
        assert not device.commands.counts().get("accepted")
        assert not any(b"offline" in payload for payload in statuses.payloads("status"))
        client.disconnect()
        client.loop_stop()


def test_it_subscribes_anew_after_the_broker_was_away(broker: Process, tmp_path: Path) -> None:
    """A broker that was killed and started again brings commands as before."""
    with Device(tmp_path, broker.port) as device:
        broker.kill()
        wait_for(lambda: not device.sender.publisher.state.connected, HANGS_S, "the loss")
        broker.start()
        wait_for(lambda: device.sender.publisher.state.connected and device.listens, HANGS_S, "all anew")
        assert ask(broker.port, "status").state == "done"


def test_a_broker_of_3_1_1(tmp_path: Path) -> None:
    """Amqtt knows no response topic: the answer comes on command/result, told by its id."""
    with amqtt() as broker, Device(tmp_path, broker.port, connect_timeout_s=1.0) as device:
        assert device.sender.publisher.state.protocol == "MQTT 3.1.1"
        options = MqttOptions("127.0.0.1", broker.port, protocol="3.1.1")
        assert Request(options, TOPICS, "status", {}, timeout_s=HANGS_S).run().state == "done"


class Denying(FakeBroker):
    """Takes what is published; `on_subscribe` gets the link and the SUBSCRIBE."""

    def __init__(self, on_subscribe: Callable[[Any, bytes], object]) -> None:
        self.subscribed = 0
        self._on_subscribe = on_subscribe
        super().__init__(lambda _: b"")

    def _talk(self, link: Any) -> None:
        stream = link.makefile("rb")
        while head := stream.read(1):
            body = stream.read(packet_length(stream))
            kind = head[0] >> 4
            if kind == 1:
                link.sendall(b"\x20\x03\x00\x00\x00")
            elif kind == 8:
                self.subscribed += 1
                self._on_subscribe(link, body)
            elif kind == 3:
                end = 2 + int.from_bytes(body[:2], "big")
                self.seen.append(body)
                link.sendall(struct.pack("!BBH", 0x40, 2, int.from_bytes(body[end : end + 2], "big")))


def test_a_broker_that_ends_the_connection_at_a_subscription_gets_the_events(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After three times it is not asked again for a while: the connection stands, which is told once."""
    with Denying(lambda link, _: link.shutdown(socket.SHUT_RDWR)) as broker:
        sender = Sender(tmp_path, broker.port)
        sender.publisher.listen(TOPICS.command, lambda _: None)
        state = lambda: sender.publisher.state  # noqa: E731
        wait_for(lambda: state().connected and state().connections == 4, HANGS_S, "the fourth connection")
        sender.put(200)
        assert sender.finish()
        assert (broker.subscribed, state().connections) == (3, 4)
    assert caplog.text.count("ends the connection when it is asked") == 1


def test_a_denied_subscription_is_told_once_and_publishing_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A SUBACK of 0x87: one line with what to do, events arrive."""
    with Denying(lambda link, body: link.sendall(b"\x90\x04" + body[:2] + b"\x00\x87")) as broker:
        sender = Sender(tmp_path, broker.port)
        sender.publisher.listen(TOPICS.command, lambda _: None)
        sender.put(5)
        wait_for(lambda: f"let this login read {TOPICS.command}" in caplog.text, HANGS_S, "the denial")
        assert sender.finish()
    assert caplog.text.count("denies reading") == 1


def test_a_requester_without_the_right_is_told(tmp_path: Path) -> None:
    """The broker denies the command: exit 77, with the topic."""
    acl = tmp_path / "acl"
    acl.write_text("topic read edge/#\n")
    acl.chmod(0o600)
    lines = f"allow_anonymous true\nacl_file {acl}"
    denied = pytest.raises(NotPermitted, match="denies the command")
    with mosquitto(tmp_path, settings=lines) as broker, denied:
        ask(broker.port, "status")


def test_what_is_received_tells_all(broker: Process, tmp_path: Path) -> None:
    """Topic, payload, retain flag, response topic and correlation data come through; 3.1.1 has the first alone."""
    got: list[Received] = []
    sender = Sender(tmp_path, broker.port)
    sender.publisher.listen("a/b", got.append, kept=True)
    client = publisher(broker.port, protocol=MQTTProtocolVersion.MQTTv5)
    from agent.mqtt.receiving import properties_of

    wait_for(lambda: sender.transport._receiving._subscribed, HANGS_S, "the subscription")
    client.publish("a/b", b"x", 1, properties=properties_of(b"\x00k", "back"))
    wait_for(lambda: got, HANGS_S, "the message")
    assert got == [Received("a/b", b"x", False, "back", b"\x00k")]
    client.disconnect()
    client.loop_stop()
    sender.close()
