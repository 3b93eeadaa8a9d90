"""`edge-agent events`, for real: broker, agent's way out, and the command as a process of its own."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from paho.mqtt.publish import multiple

from agent.cli.common import DEFAULT_CONFIG
from agent.mqtt.follow import Follower
from agent.mqtt.options import MqttOptions
from tests.e2e.brokers import Process, Subscriber, free_port, mosquitto, wait_for
from tests.e2e.certificates import Authority
from tests.e2e.sender import TOPICS, Sender, ids
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "agent", "events"]


class Keeper:
    """A mosquitto that keeps what its sessions have not got yet, also through a restart."""

    def __init__(self, broker: Process, log: Path) -> None:
        self.broker, self.log = broker, log
        self.url = f"mqtt://127.0.0.1:{broker.port}"

    def subscriptions(self) -> int:
        """Return how many subscriptions were granted so far."""
        return self.log.read_text().count("Sending SUBACK") if self.log.exists() else 0


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    """Run one."""
    log = tmp_path / "broker.log"
    settings = (
        f"allow_anonymous true\npersistence true\npersistence_location {tmp_path}/\nmax_queued_messages 0\n"
        f"log_dest file {log}\nlog_type all"
    )
    with mosquitto(tmp_path, settings=settings) as broker:
        yield Keeper(broker, log)


@contextmanager
def following(
    keeper: Keeper, folder: Path, *options: str, most_bytes: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run the command, subscribed on entry; what it prints goes to `folder`/printed.

    With `most_bytes` no file may grow beyond that, as on a disk that is full.
    """
    before = keeper.subscriptions()
    with (folder / "printed").open("w") as printed, (folder / "said").open("w") as said:
        child = subprocess.Popen(
            [*COMMAND, "--follow", "--broker", keeper.url, *options],
            cwd=ROOT,
            stdout=printed,
            stderr=said,
            text=True,
            preexec_fn=None if most_bytes is None else lambda: _limit(most_bytes),
        )
        try:
            wait_for(
                lambda: keeper.subscriptions() > before or child.poll() is not None,
                HANGS_S,
                "the subscription",
            )
            yield child
        finally:
            child.kill()
            child.wait()


def _limit(most_bytes: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))


def printed(folder: Path) -> list[Any]:
    """Return what was printed as JSON."""
    return [json.loads(line) for line in (folder / "printed").read_text().splitlines()]


def interrupted(child: subprocess.Popen[str]) -> int:
    """Interrupt the command as Ctrl-C does; return its exit code."""
    child.send_signal(signal.SIGINT)
    return child.wait(HANGS_S)


def test_each_event_comes_once_through_restarts_of_the_broker(tmp_path: Path, keeper: Keeper) -> None:
    """Two restarts while events flow, and 400 events: each is printed and kept once, nothing is missing."""
    out = tmp_path / "events.jsonl"
    with following(keeper, tmp_path, "--json", "--out", str(out)) as child:
        sender, sent = Sender(tmp_path, keeper.broker.port), []
        for _ in range(2):
            sent += sender.put(150)
            most = len(sent) - 100
            wait_for(lambda most=most: out.read_bytes().count(b"\n") >= most, HANGS_S, "events to flow")
            keeper.broker.terminate()
            sent += sender.put(50)
            keeper.broker.start()
        assert sender.finish(HANGS_S)
        wait_for(lambda: out.read_bytes().count(b"\n") >= len(sent), HANGS_S, "all events")
        assert interrupted(child) == 0
    *events, summary = printed(tmp_path)
    assert sorted(ids([json.dumps(e).encode() for e in events])) == sorted(sent)
    assert len(events) == len(sent)
    assert ids(out.read_bytes().splitlines()) == [e["id"] for e in events]
    assert summary["summary"]["missing"] == []
    assert summary["summary"]["events"] == len(sent)


def test_with_a_client_id_nothing_is_missed_while_it_is_away(tmp_path: Path, keeper: Keeper) -> None:
    """The broker keeps what comes while the command does not run, and the next run gets it."""
    options = ["--json", "--client-id", "archive", "--device", "dev1"]
    sender = Sender(tmp_path, keeper.broker.port)
    with following(keeper, tmp_path, *options, "--count", "5") as child:
        sender.put(5)
        assert child.wait(HANGS_S) == 0
    assert len(printed(tmp_path)) == 6
    sent = sender.put(10)
    assert sender.outbox.flush(HANGS_S)
    assert sender.publisher.drain(HANGS_S)
    with following(keeper, tmp_path, *options, "--count", "10") as child:
        assert child.wait(HANGS_S) == 0
    sender.close()
    assert sorted(e["id"] for e in printed(tmp_path)[:-1]) == sorted(sent)


def test_what_is_missing_is_told_and_ends_with_1(tmp_path: Path, keeper: Keeper) -> None:
    """Numbers 2 and 3 never came, a gap tells of 3: one line says which, and the exit code is 1."""
    other = Sender(tmp_path, free_port())
    other.put(6)
    assert other.outbox.flush(HANGS_S)
    rows = [m for m in other.outbox.take(9) if b"/P0/" in m.payload]
    epoch, gap = other.outbox.epoch, TOPICS.gap
    other.close()
    report = {
        "schema": 1,
        "epoch": epoch,
        "lane": "P0",
        "from_seq": 3,
        "to_seq": 3,
        "count": 1,
        "reason": "x",
    }
    wire = [(rows[n].topic, rows[n].payload, 1, False) for n in (0, 3, 0)]
    with following(keeper, tmp_path) as child:
        multiple(
            [*wire, (gap, json.dumps(report), 1, False), ("edge/dev1/gap", b"{", 1, False)],
            port=keeper.broker.port,
        )
        wait_for(lambda: "can't be read" in (tmp_path / "printed").read_text(), HANGS_S, "the last line")
        assert interrupted(child) == 1
    lines = (tmp_path / "printed").read_text().splitlines()
    assert [line.split("  ")[0] for line in lines[:2]] == ["dev1/yard"] * 2
    assert "new    person 0.88" in lines[0]
    assert "gap: x: 1 of 3 to 3, lane P0" in lines[2]
    assert lines[4] == "2 events, 1 duplicates, 0 late, 0 out of order, 1 gaps that report 1, 1 missing"
    assert lines[5] == f"missing: dev1/{epoch}/P0: 1 of 2 to 2: no gap explains it"
    assert max(map(len, lines)) <= 100


def ended(*options: str) -> tuple[int, str]:
    """Run the command to its end; return its exit code and what it said."""
    done = subprocess.run(
        [*COMMAND, *options], cwd=ROOT, capture_output=True, text=True, timeout=HANGS_S, check=False
    )
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.returncode, done.stderr


def test_what_can_not_work_is_one_line_and_a_code(tmp_path: Path) -> None:
    """Without --follow 2, broker away 69, a file that can't be written 73."""
    away = f"mqtt://u:secret@127.0.0.1:{free_port()}"
    assert ended() == (2, "edge-agent: error: nothing to do; add --follow\n")
    code, line = ended("--follow", "--broker", away)
    assert (code, "secret" in line) == (69, False)
    assert ended("--follow", "--broker", away, "--out", str(tmp_path / "none/x"))[0] == 73
    assert ended("--follow", "--broker", away, "--config", str(tmp_path))[0] == 2
    assert ended("--follow", "--config", str(tmp_path / "none.toml"))[0] == 66
    for wrong in (
        ("--device", "a/b"),
        ("--device", "+"),
        ("--topic-root", "edge/#"),
        ("--topic-root", "a//b"),
    ):
        code, line = ended("--follow", "--broker", away, *wrong)
        assert (code, wrong[0] in line) == (2, True)
    assert ended("--follow", "--broker", away, "--ca-file", "x")[0] == 2
    assert ended("--follow", "--broker", away.replace("mqtt", "mqtts"), "--cert-file", "x")[0] == 2


@pytest.mark.skipif(DEFAULT_CONFIG.exists(), reason="this machine has a configuration of an agent")
def test_without_a_configuration_it_asks_for_the_broker() -> None:
    """A monitor has no agent's configuration: the line names the option that it needs."""
    code, line = ended("--follow")
    assert (code, "--broker" in line) == (66, True)


def test_that_nothing_comes_is_told(tmp_path: Path, keeper: Keeper) -> None:
    """A device that is not there, by a mistyped name: after some seconds one line on standard error says so."""
    with Subscriber(keeper.broker.port), following(keeper, tmp_path, "--json", "--device", "dev2") as child:
        sender = Sender(tmp_path, keeper.broker.port)
        sender.put(1)
        assert sender.finish(HANGS_S)
        said = tmp_path / "said"
        wait_for(said.read_text, HANGS_S, "the hint")
        assert interrupted(child) == 0
    assert said.read_text().startswith("edge-agent: no agent seen on edge/dev2/status so far: check --device")
    assert len(said.read_text().splitlines()) == 1
    assert [list(line) for line in printed(tmp_path)] == [["summary"]]


def test_a_full_disk_loses_nothing(tmp_path: Path, keeper: Keeper) -> None:
    """The command ends with 74 at the line that does not fit; that and the rest come to the next run.

    So may lines that were written and whose confirmation was still on its way: a run knows nothing of the one before.
    """
    out = tmp_path / "events.jsonl"
    out.write_bytes(b'{"torn":')
    options = ("--client-id", "archive", "--json", "--out", str(out))
    with following(keeper, tmp_path, *options, most_bytes=20_000) as child:
        sender = Sender(tmp_path, keeper.broker.port)
        sent = sender.put(60)
        assert child.wait(HANGS_S) == 74
    assert "can't write to" in (tmp_path / "said").read_text()
    assert out.read_bytes().endswith(b"}\n")
    assert sender.finish(HANGS_S)
    with following(keeper, tmp_path, *options) as child:
        wait_for(
            lambda: out.read_bytes().count(b"\n") > len(sent) and _ids(out) >= set(sent),
            HANGS_S,
            "the rest",
        )
        assert interrupted(child) == 0
    assert out.read_bytes().startswith(b'{"torn":\n')
    assert _ids(out) == set(sent)


def _ids(out: Path) -> set[str]:
    """Return the ids in the whole lines of `out` but the first, which is torn."""
    whole = out.read_bytes().rpartition(b"\n")[0]
    return {json.loads(line)["id"] for line in whole.splitlines()[1:]}


def test_what_comes_at_the_stop_is_left_to_the_broker(keeper: Keeper) -> None:
    """A message between Ctrl-C and the goodbye is neither delivered nor acknowledged: the next run gets it."""
    options = MqttOptions("127.0.0.1", keeper.broker.port, client_id="archive")
    got: list[bytes] = []
    follower = Follower(options, ["t"], lambda message: got.append(message.payload))
    asked = iter([False])

    def interrupted_as_one_comes() -> bool:
        if follower.granted_s is None:
            return False
        if next(asked, True):
            return True
        multiple([("t", b"1", 1, False)], port=keeper.broker.port)
        return False

    follower.run(interrupted_as_one_comes)
    assert got == []
    Follower(options, ["t"], lambda message: got.append(message.payload)).run(lambda: bool(got))
    assert got == [b"1"]


def test_a_large_message_does_not_stop_it(tmp_path: Path) -> None:
    """What a device would not take, as two megabytes: it comes, and what is behind it."""
    got: list[int] = []
    messages = [("t", bytes(2 << 20), 1, False), ("t", b"next", 1, False)]
    with mosquitto(tmp_path) as broker:
        follower = Follower(
            MqttOptions("127.0.0.1", broker.port),
            ["t"],
            lambda message: got.append(len(message.payload)),
            on_granted=lambda _: multiple(messages, hostname="127.0.0.1", port=broker.port),
        )
        end_s = time.monotonic() + HANGS_S
        follower.run(lambda: len(got) == 2 or time.monotonic() > end_s)
    assert got == [2 << 20, 4]


def test_two_with_one_client_id_are_told(tmp_path: Path, keeper: Keeper) -> None:
    """They take the connection from each other: both say what the reason may be."""
    (tmp_path / "other").mkdir()
    options = ["--client-id", "archive"]
    with following(keeper, tmp_path, *options), following(keeper, tmp_path / "other", *options):
        wait_for(lambda: "the client id archive" in (tmp_path / "said").read_text(), HANGS_S, "the hint")


def test_a_monitor_shows_its_certificate(tmp_path: Path) -> None:
    """No configuration of an agent is needed for a broker that wants certificates."""
    authority = Authority(tmp_path)
    pair, mine = authority.issue("broker", "127.0.0.1"), authority.issue("monitor")
    settings = (
        f"cafile {authority.cert}\ncertfile {pair.cert}\nkeyfile {pair.key}\nrequire_certificate true\n"
        "use_identity_as_username true\nallow_anonymous false"
    )
    with mosquitto(tmp_path, settings=settings) as broker:
        url = f"mqtts://127.0.0.1:{broker.port}"
        tls = {"tls": True, "ca_file": authority.cert, "cert_file": mine.cert, "key_file": mine.key}
        sender = Sender(tmp_path, broker.port, **tls)
        files = ("--ca-file", str(authority.cert), "--cert-file", str(mine.cert), "--key-file", str(mine.key))
        command = [*COMMAND, "--follow", "--broker", url, *files, "--json", "--count", "1"]
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            wait_for(lambda: sender.put(1) and child.poll() is not None, HANGS_S, "an event")
        finally:
            child.kill()
            printed, _ = child.communicate()
        sender.finish()
    assert child.returncode == 0
    assert json.loads(printed.splitlines()[0])["device"] == "dev1"


def test_a_login_that_is_refused_ends_with_77(tmp_path: Path) -> None:
    """And is not tried again."""
    with mosquitto(tmp_path, settings="allow_anonymous false") as broker:
        code, line = ended("--follow", "--broker", f"mqtt://dev1:secret@127.0.0.1:{broker.port}")
    assert (code, "secret" in line) == (77, False)
    assert "the right username and password_file, or the right login in the URL" in line
    assert f"127.0.0.1:{broker.port}" in line
