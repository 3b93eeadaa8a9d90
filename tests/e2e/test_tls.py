"""TLS, logins and the access list of ansible/mosquitto, against a real mosquitto."""

from __future__ import annotations

import random
import shutil
import socket
import sqlite3
import ssl
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization

from agent.errors import BadConfig
from agent.mqtt.options import MqttOptions, fix_for
from agent.mqtt.transport import MqttTransport
from agent.transport import Message, Outcome, Presence
from tests.e2e.brokers import Process, Subscriber, free_port, mosquitto, wait_for
from tests.e2e.certificates import Authority, Pair
from tests.e2e.sender import TOPICS, Sender
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parents[2] / "ansible/mosquitto"
SECRET = "correct-horse-battery"  # noqa: S105 - of the test


def pair(folder: Path, name: str) -> Pair:
    """Return the certificate and key of `name` in `folder`."""
    return Pair(folder / f"{name}.pem", folder / f"{name}.key")


def tls_settings(authority: Authority, broker: Pair, *, clients: bool) -> str:
    """Return mosquitto's lines for TLS; with `clients` it wants a certificate of `authority` from each."""
    lines = [
        f"cafile {authority.cert}",
        f"certfile {broker.cert}",
        f"keyfile {broker.key}",
        "tls_version tlsv1.2",
    ]
    if clients:
        lines += ["require_certificate true", "use_identity_as_username true", "allow_anonymous false"]
    else:
        lines += ["allow_anonymous true"]
    return "\n".join(lines)


def transport(port: int, **options: Any) -> MqttTransport:
    """Return a transport that tries often; by default over TLS."""
    options = {
        "tls": True,
        "backoff_first_s": 0.05,
        "backoff_max_s": 0.1,
        "client_id": "edge/dev1",
        **options,
    }
    return MqttTransport(MqttOptions("127.0.0.1", port, **options), rng=random.Random(1))


def connects(link: MqttTransport, timeout_s: float = HANGS_S) -> bool:
    """Poll until connected or an error; return whether it is connected."""
    wait_for(lambda: link.poll(0.05) or link.link.connected or link.link.error, timeout_s, "an answer")
    return link.link.connected


def publish(link: MqttTransport, topic: str, *, retain: bool = False) -> Outcome:
    """Publish one message and return what became of it."""
    link.send(Message(1, topic, b"{}", retain=retain))
    reports: list[Any] = []
    wait_for(lambda: reports.extend(link.poll(0.05)) or reports, HANGS_S, "an answer")
    return reports[0].outcome  # type: ignore[no-any-return]


def test_a_device_with_its_certificate_publishes(tmp_path: Path) -> None:
    """Both sides show a certificate of the authority: connected by TLS 1.2 or later, and delivered."""
    authority = Authority(tmp_path)
    device = authority.issue("dev1")
    settings = tls_settings(authority, authority.issue("broker", "127.0.0.1"), clients=True)
    with mosquitto(tmp_path, settings=settings) as broker:
        link = transport(broker.port, ca_file=authority.cert, cert_file=device.cert, key_file=device.key)
        assert connects(link)
        assert publish(link, "edge/dev1/check") is Outcome.DELIVERED
        sock = link._client.socket()  # type: ignore[union-attr]
        assert isinstance(sock, ssl.SSLSocket)
        assert sock.version() in {"TLSv1.2", "TLSv1.3"}
        link.close()


@pytest.mark.parametrize("fault", ["other authority", "wrong host", "expired", "no client certificate"])
def test_a_broker_that_is_not_the_right_one_gets_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """It never connects, however often it is tried; the log says why and what to do, once."""
    authority = Authority(tmp_path)
    other = Authority(tmp_path, "other")
    broker_pair = authority.issue(
        "broker",
        "broker.example" if fault == "wrong host" else "127.0.0.1",
        days=-1 if fault == "expired" else 1,
    )
    settings = tls_settings(authority, broker_pair, clients=fault == "no client certificate")
    trusted = other if fault == "other authority" else authority
    with mosquitto(tmp_path, settings=settings) as broker:
        link = transport(broker.port, ca_file=trusted.cert, username="dev1", password=SECRET)
        tries: list[int] = []
        link._again.lost = counted(link._again.lost, tries)  # type: ignore[method-assign]
        wait_for(lambda: link.poll(0.05) or len(tries) >= 4, HANGS_S, "some tries")
        assert not link.link.connected
        assert link.link.session == 0
        error = link.link.error
        link.close()
    expected = {
        "other authority": "certificate verify failed",
        "wrong host": "IP address mismatch",
        "expired": "certificate has expired",
        "no client certificate": "",
    }
    assert expected[fault] in error
    assert fix_for(error)
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) <= 2
    assert SECRET not in caplog.text + error


def counted(call: Any, calls: list[int]) -> Any:
    """Return `call`, which notes each time it is called."""

    def wrapped(*args: Any, **more: Any) -> Any:
        calls.append(1)
        return call(*args, **more)

    return wrapped


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """Yield the port of a server that speaks no TLS, and what the connections to it began with."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                with link:
                    heard.append(link.recv(4096))
                    link.sendall(b"\x20\x03\x00\x00\x00")  # as an MQTT broker without TLS would accept

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield server.getsockname()[1], heard
        server.shutdown(socket.SHUT_RDWR)
    thread.join(HANGS_S)


def test_tls_that_is_asked_for_is_never_given_up(listener: tuple[int, list[bytes]]) -> None:
    """A port without TLS gets the beginning of TLS at every try, never a login in plain text."""
    port, heard = listener
    link = transport(port, username="dev1", password=SECRET)
    wait_for(lambda: link.poll(0.05) or len(heard) >= 4, HANGS_S, "four tries")
    link.close()
    assert link.link.session == 0
    assert all(first[:1] == b"\x16" for first in heard if first)
    assert not any(SECRET.encode() in first or b"MQTT" in first for first in heard)


def test_a_broker_that_says_nothing_to_tls_is_given_up(tmp_path: Path) -> None:
    """The TLS handshake has the same time limit as the rest."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = transport(server.getsockname()[1], connect_timeout_s=0.3)
        assert not connects(link)
        assert "timed out" in link.link.error
        link.close()


def test_a_key_with_a_passphrase_is_a_config_error(tmp_path: Path) -> None:
    """Nobody is there to type it: the agent says so instead of waiting at a prompt."""
    authority = Authority(tmp_path)
    pair = authority.issue("dev1")
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    encoded = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pair.key.write_bytes(key.private_bytes(*encoded, serialization.BestAvailableEncryption(b"passphrase")))
    with pytest.raises(BadConfig, match="passphrase"):
        transport(1, ca_file=authority.cert, cert_file=pair.cert, key_file=pair.key)
    other = authority.issue("dev2")
    with pytest.raises(BadConfig, match="TLS files"):
        transport(1, ca_file=authority.cert, cert_file=pair.cert, key_file=other.key)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[Process, Path]]:
    """Run a mosquitto with logins and the access list of ansible/mosquitto; yield it and its log."""
    maker = shutil.which("mosquitto_passwd")
    if maker is None:
        pytest.skip("mosquitto_passwd is not installed")
    passwords, acl, log = tmp_path / "passwords", tmp_path / "acl", tmp_path / "broker.log"
    passwords.touch()
    passwords.chmod(0o600)
    for user in ("dev1", "dev2", "monitor", "operator", "homeassistant"):
        subprocess.run([maker, "-b", str(passwords), user, SECRET], check=True, capture_output=True)
    shutil.copyfile(EXAMPLE / "acl", acl)
    acl.chmod(0o600)
    lines = (
        f"password_file {passwords}\nacl_file {acl}\nallow_anonymous false\nlog_dest file {log}\nlog_type all"
    )
    with mosquitto(tmp_path, settings=lines) as broker:
        yield broker, log


def login(port: int, user: str, **options: Any) -> MqttTransport:
    """Return a transport with the login of `user`."""
    return transport(
        port, **{"tls": False, "username": user, "password": SECRET, "client_id": user, **options}
    )


WRITABLE = (
    "edge/dev1/status",
    "edge/dev1/health",
    "edge/dev1/stats",
    "edge/dev1/gap",
    "edge/dev1/check",
    "edge/dev1/events/yard",
    "edge/dev1/state/yard/person",
    "edge/dev1/snapshot/yard/person",
    "edge/dev1/camera/yard",
    "edge/dev1/model",
    "edge/dev1/command/result",
    "edge/dev1/command/result/who",
    "homeassistant/device/dev1/config",
)
FORBIDDEN = (
    "edge/dev1/command",
    "edge/dev1/command/update",
    "edge/dev1",
    "edge/models/available",
    "edge/dev2/status",
    "edge/dev2/events/yard",
    "edge/dev2/command",
    "edge/dev2/command/result",
    "edge/dev2/camera/yard",
    "homeassistant/device/dev2/config",
    "homeassistant/status",
    "elsewhere",
)


def test_a_device_writes_its_own_tree_and_nothing_else(guarded: tuple[Process, Path]) -> None:
    """By the broker's own answers: its topics are taken, commands, other devices' and all else are denied."""
    link = login(guarded[0].port, "dev1")
    assert connects(link)
    outcomes = {topic: publish(link, topic) for topic in (*WRITABLE, *FORBIDDEN)}
    link.close()
    assert {topic for topic, outcome in outcomes.items() if outcome is Outcome.DELIVERED} == set(WRITABLE)
    assert {outcomes[topic] for topic in FORBIDDEN} == {Outcome.DENIED}


def test_a_device_reads_its_own_commands_and_nothing_else(guarded: tuple[Process, Path]) -> None:
    """Of all that is published, one that subscribes to everything gets what is for it, and no more."""
    port = guarded[0].port
    with (
        Subscriber(port, login=("dev1", SECRET)) as device,
        Subscriber(port, login=("monitor", SECRET)) as monitor,
    ):
        other, operator = login(port, "dev2"), login(port, "operator")
        assert connects(other)
        assert connects(operator)
        assert publish(operator, "edge/dev2/command") is Outcome.DELIVERED
        assert publish(other, "edge/dev2/events/yard") is Outcome.DELIVERED
        home = login(port, "homeassistant")
        assert connects(home)
        mine = [
            "edge/dev1/command",
            "edge/dev1/command/update",
            "edge/models/available",
            "homeassistant/status",
        ]
        assert publish(operator, "edge/dev2/command/update") is Outcome.DENIED
        assert publish(operator, mine[0]) is Outcome.DELIVERED
        assert publish(home, mine[1]) is Outcome.DELIVERED
        assert publish(operator, mine[2], retain=True) is Outcome.DELIVERED
        assert publish(home, mine[3]) is Outcome.DELIVERED
        assert publish(home, mine[2]) is Outcome.DENIED
        wait_for(lambda: len(monitor.messages) == 6, HANGS_S, "all messages at the monitor")
        wait_for(lambda: len(device.messages) == 4, HANGS_S, "what is for the device")
        assert [topic for topic, _, _ in device.messages] == mine
        for link in (other, operator, home):
            link.close()


def test_a_device_does_commands_and_tells_home_assistant(
    guarded: tuple[Process, Path], tmp_path: Path
) -> None:
    """With the access list of the example: an operator's command is done, Home Assistant reads what it needs."""
    port, login_of = guarded[0].port, lambda user: (user, SECRET)
    from agent.announcing import Announcer
    from agent.commands.asking import Request
    from agent.homeassistant import Device as Told
    from tests.e2e.commanded import Device

    topic = "homeassistant/device/dev1/config"
    with (
        Subscriber(port, "homeassistant/#", login=login_of("homeassistant")) as home,
        Device(tmp_path, port, username="dev1", password=SECRET) as device,
        Announcer(
            device.sender.publisher,
            Told("dev1", TOPICS, "1"),
            lambda: {"yard": ("person",)},
            prefix="homeassistant",
            state_dir=tmp_path,
        ),
    ):
        operator = MqttOptions("127.0.0.1", port, username="operator", password=SECRET)
        assert Request(operator, TOPICS, "status", {}, timeout_s=HANGS_S).run().state == "done"
        wait_for(lambda: home.payloads(topic), HANGS_S, "the discovery message")
        assert device.sender.publisher.state.denied_topics == ()


def test_the_example_configuration_knows_a_device_by_its_certificate(tmp_path: Path) -> None:
    """ansible/mosquitto/mosquitto.conf with its certificates, but for paths and port: their names are the devices'."""
    port = free_port()
    text = (EXAMPLE / "mosquitto.conf").read_text()
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    commands = [line.strip("# ") for line in text.splitlines() if "openssl " in line]
    assert len(commands) == 5
    for command in commands:
        command = command.replace("DNS:broker.lan", "IP:127.0.0.1").replace("pi4", "dev1")
        subprocess.run(command, shell=True, cwd=tmp_path, check=True, capture_output=True)  # noqa: S602 - our own
    strict = ["openssl", "verify", "-x509_strict", "-CAfile", "ca.pem", "broker.pem", "dev1.pem"]
    subprocess.run(strict, cwd=tmp_path, check=True, capture_output=True)
    device, stranger = pair(tmp_path, "dev1"), Authority(tmp_path, "other").issue("dev2")
    shutil.copyfile(EXAMPLE / "acl", tmp_path / "acl")
    (tmp_path / "acl").chmod(0o600)
    log = tmp_path / "broker.log"
    text = text.replace("listener 8883", f"listener {port} 127.0.0.1")
    text = text.replace("/etc/mosquitto/certs", str(tmp_path)).replace("/etc/mosquitto", str(tmp_path))
    text = text.replace("/var/lib/mosquitto/", f"{tmp_path}/")
    with mosquitto(tmp_path, port=port, config=f"user root\n{text}\nlog_dest file {log}"):
        link = transport(port, ca_file=tmp_path / "ca.pem", cert_file=device.cert, key_file=device.key)
        assert connects(link)
        for _ in range(3):
            assert publish(link, "edge/dev1/events/yard", retain=True) is Outcome.DELIVERED
            assert publish(link, "edge/dev2/events/yard") is Outcome.DENIED
        assert link.link.session == 1
        link.close()
        other = transport(port, ca_file=tmp_path / "ca.pem", cert_file=stranger.cert, key_file=stranger.key)
        assert not connects(other)
        other.close()
    said = [line for line in log.read_text().splitlines() if "administrator" not in line]
    assert said
    for_all = "does not contain '%c' or '%u'"  # mosquitto has no other way to say it of every user
    assert not [line for line in said if ("Warning" in line and for_all not in line) or "Saving" in line]


def test_a_name_that_is_not_the_certificates_is_told_and_not_hammered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says what is denied and what to do, once, and all is kept, also where each denial ends a connection.

    As mosquitto 2.0 does with `max_queued_messages 0`.
    """
    authority, log = Authority(tmp_path), tmp_path / "broker.log"
    shutil.copyfile(EXAMPLE / "acl", tmp_path / "acl")
    (tmp_path / "acl").chmod(0o600)
    settings = tls_settings(authority, authority.issue("broker", "127.0.0.1"), clients=True)
    settings += f"\nacl_file {tmp_path}/acl\nlog_dest file {log}\nlog_type all\nmax_queued_messages 0"
    device = authority.issue("pi4")
    with mosquitto(tmp_path, settings=settings) as broker:
        sender = Sender(
            tmp_path,
            broker.port,
            tls=True,
            ca_file=authority.cert,
            cert_file=device.cert,
            key_file=device.key,
        )
        sent = sender.put(3)
        denied = (TOPICS.events("yard"), TOPICS.status)
        wait_for(lambda: sender.publisher.state.denied_topics == denied, HANGS_S, "the denials")
        wait_for(lambda: sender.publisher.state.connected, HANGS_S, "a connection that stands")
        assert not sender.finish(1.0)
    # mosquitto ends the connection at a denial, which may overtake the answer that tells of it: then it is tried again.
    assert log.read_text().count("New client connected") <= 4 * len(denied)
    assert caplog.text.count("let this login write edge/dev1/#") == 1
    assert "same device name" not in caplog.text
    with sqlite3.connect(tmp_path / "outbox.db") as rows:
        kept = rows.execute("SELECT count(*) FROM message WHERE topic LIKE '%/events/%'").fetchone()
    rows.close()
    assert kept == (len(sent),)


def test_the_last_will_passes_the_access_list(guarded: tuple[Process, Path]) -> None:
    """A device may leave its own `offline` behind, and connects with it."""
    port = guarded[0].port
    presence = Presence("edge/dev1/status", birth=lambda: b"online", will=b"offline")
    options = MqttOptions("127.0.0.1", port, username="dev1", password=SECRET, backoff_first_s=60)
    link = MqttTransport(options, presence=presence, rng=random.Random(1))
    assert connects(link)
    with Subscriber(port, login=("monitor", SECRET)) as monitor:
        link._client.socket().shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
        wait_for(lambda: link.poll(0.01) or monitor.messages, HANGS_S, "the will")
    link.close()
    assert monitor.messages[0][:2] == ("edge/dev1/status", b"offline")


def test_a_wrong_password_slows_down_and_is_never_shown(
    guarded: tuple[Process, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """At most 12 attempts in ten minutes, by the broker's own log; neither log, error nor repr has a secret."""
    caplog.set_level("DEBUG")
    broker, broker_log = guarded
    wrong, now = "Tr0ub4dor-and-3", [0.0]
    options = MqttOptions("127.0.0.1", broker.port, username="dev1", password=wrong, client_id="dev1")
    link = MqttTransport(options, rng=random.Random(1), clock=lambda: now[0])
    while now[0] < 600:
        link.poll(0.0)
        wait_for(lambda: not link.poll(0.02) and link._client is None, HANGS_S, "the refusal")
        now[0] = link._next_try_s
    shown = link.link.error + repr(options) + str(options) + repr(link) + repr(link.__dict__)
    link.close()
    attempts = broker_log.read_text().count("New client connected") + broker_log.read_text().count(
        "not authorised"
    )
    assert 3 <= attempts <= 12
    assert link.link.session == 0
    assert "refused" in caplog.text
    for secret in (wrong, SECRET):
        assert secret not in caplog.text + shown


def test_in_real_time_a_wrong_password_is_tried_once(guarded: tuple[Process, Path]) -> None:
    """In the first three seconds there is one attempt."""
    broker, broker_log = guarded
    options = MqttOptions("127.0.0.1", broker.port, username="dev1", password=SECRET[::-1])
    link = MqttTransport(options, rng=random.Random(1))
    assert not connects(link)
    for _ in range(30):
        link.poll(0.1)
    link.close()
    assert broker_log.read_text().count("not authorised") == 1
