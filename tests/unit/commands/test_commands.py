"""Commands without a broker: what is done, what is answered, what is counted."""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from agent import clock
from agent.commands import Commands
from agent.commands.commands import BURST
from agent.errors import BadData
from agent.topics import Topics
from agent.transport import Received
from agent.wire import TimeBase
from tests.e2e.brokers import wait_for
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

TOPICS = Topics.of("dev1")
NAMES = frozenset({"status", "slow", "breaks", "crashes", "model.install"})
OFFER = {"schema": 1, "name": "good", "version": 4, "url": "http://x/m.zip", "sha256": "0" * 64}


class Operations:
    """Does what it is told to; "slow" waits for `go`."""

    def __init__(self) -> None:
        self.done: list[tuple[str, Mapping[str, object]]] = []
        self.go, self.installed = threading.Event(), threading.Event()
        self.installed.set()

    def do(
        self, name: str, args: Mapping[str, object], progress: Callable[[Mapping[str, object]], None]
    ) -> object:
        if name == "status":
            return {"model": {"name": "good", "version": 3}}
        self.done.append((name, args))
        if name == "slow":
            progress({"step": 1})
            progress({"step": 2})
            assert self.go.wait(HANGS_S)
        elif name == "model.install":
            progress({"step": "download", "bytes": 5, "of_bytes": 10})
            assert self.installed.wait(HANGS_S)
        elif name == "breaks":
            raise BadData("the model", seen="broken", fix="give another")
        elif name == "crashes":
            raise RuntimeError("secret")
        return {"did": name}


class Publisher:
    """Keeps what is told, and hands over what is to be heard."""

    def __init__(self) -> None:
        self.takers: dict[str, Callable[[Received], None]] = {}
        self.notes: list[tuple[str, dict[str, Any], bytes | None]] = []
        self.retained: dict[str, list[Any]] = {}

    def listen(self, topic: str, take: Callable[[Received], None], *, kept: bool = False) -> None:
        self.takers[topic] = take

    def note(self, topic: str, payload: bytes, *, correlation: bytes | None = None) -> None:
        self.notes.append((topic, json.loads(payload), correlation))

    def retain(self, topic: str, payload: bytes) -> None:
        self.retained.setdefault(topic, []).append(json.loads(payload))


class Lab:
    """Commands at work on doubles."""

    def __init__(self) -> None:
        self.operations, self.publisher = Operations(), Publisher()
        outlet: Any = SimpleNamespace(publisher=self.publisher, topics=TOPICS)
        self.commands = Commands(self.operations, outlet, names=NAMES)

    def send(self, op: str, name: str, topic: str = TOPICS.command, **more: Any) -> None:
        """Send a command with the id `name`."""
        expires = (datetime.now(timezone.utc) + timedelta(minutes=1)).isoformat()
        command = {"schema": 1, "id": name, "expires": expires, "op": op, "args": more.pop("args", {})}
        self.publisher.takers[topic](Received(topic, json.dumps(command).encode(), **more))

    def states(self, name: str) -> list[str]:
        """Return the states told of the command `name`."""
        return [told["state"] for _, told, _ in list(self.publisher.notes) if told["id"] == name]

    def wait(self, name: str, *states: str) -> None:
        """Wait until exactly `states` were told of the command `name`."""
        wait_for(lambda: self.states(name) == list(states), HANGS_S, f"{states} of {name}")


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Run commands on doubles."""
    lab = Lab()
    with lab.commands:
        yield lab
        lab.operations.go.set()
        lab.operations.installed.set()


def test_done_failed_and_crashed(lab: Lab) -> None:
    """Each is accepted, then answered in the end; a fault of ours tells its kind alone; all are counted."""
    lab.send("status", "a", correlation=b"mine")
    lab.send("breaks", "b", response_topic="answers/me")
    lab.send("crashes", "c")
    lab.wait("a", "accepted", "done")
    lab.wait("b", "accepted", "failed")
    lab.wait("c", "accepted", "failed")
    notes = {(told["id"], told["state"]): (topic, told, given) for topic, told, given in lab.publisher.notes}
    topic, told, given = notes["a", "done"]
    assert (topic, given) == (TOPICS.command_result, b"mine")
    assert told["result"]["model"]["version"] == 3
    topic, told, given = notes["b", "failed"]
    assert (topic, told["reason"], given) == ("answers/me", "the model: broken; give another", None)
    assert notes["c", "failed"][1]["reason"] == "internal error: RuntimeError"
    assert lab.commands.counts() == {"received": 3, "accepted": 3, "done": 1, "failed": 2}


def test_status_beside_what_is_at_work(lab: Lab) -> None:
    """One command at a time, but for status; progress is told at most once a second."""
    lab.send("slow", "a")
    lab.send("breaks", "b")
    lab.send("status", "c")
    lab.wait("a", "accepted", "progress")
    lab.wait("c", "accepted", "done")
    assert lab.states("b") == ["accepted"]
    lab.operations.go.set()
    lab.wait("a", "accepted", "progress", "done")
    lab.wait("b", "accepted", "failed")


def test_no_other_command_waits_for_an_installation(lab: Lab) -> None:
    """Which may take hours; a second one waits."""
    lab.operations.installed.clear()
    lab.send("model.install", "a")
    lab.wait("a", "accepted", "progress")
    lab.send("model.install", "b")
    lab.send("breaks", "c")
    lab.wait("c", "accepted", "failed")
    assert lab.states("b") == ["accepted"]
    lab.operations.installed.set()
    lab.wait("b", "accepted", "progress", "done")


def test_what_waited_too_long_is_not_done(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was in time when it came; the one before it took so long that it no longer is."""
    ahead_s = 0.0
    monkeypatch.setattr(
        clock, "time_base", lambda: TimeBase(time.time() - time.monotonic() + ahead_s, synced=True)
    )
    lab.send("slow", "a")
    lab.wait("a", "accepted", "progress")
    lab.send("breaks", "b")
    lab.wait("b", "accepted")
    ahead_s = 3600.0
    lab.operations.go.set()
    lab.wait("b", "accepted", "failed")
    assert "expired" in lab.publisher.notes[-1][1]["reason"]
    assert [name for name, _ in lab.operations.done] == ["slow"]


def test_the_same_id_is_done_once_and_answered_again(lab: Lab) -> None:
    """While it is at work with what was told last, then with its end, along the new route."""
    lab.send("slow", "a")
    lab.wait("a", "accepted", "progress")
    lab.send("slow", "a", response_topic="answers/again")
    lab.wait("a", "accepted", "progress", "progress")
    lab.operations.go.set()
    lab.wait("a", "accepted", "progress", "progress", "done")
    lab.send("breaks", "a", response_topic="answers/again")
    lab.wait("a", "accepted", "progress", "progress", "done", "done")
    assert lab.publisher.notes[-1][0] == "answers/again"
    assert [name for name, _ in lab.operations.done] == ["slow"]
    assert lab.commands.counts()["rejected_replayed"] == 2


def test_a_flood_is_rejected_and_counted(lab: Lab) -> None:
    """Of 500 at once a burst is done, one more is answered, the rest counted; queues stay bounded."""
    for n in range(500):
        lab.send("status", f"n{n}")
    counts = lab.commands.counts
    wait_for(
        lambda: (
            sum(counts().get(f"rejected_{why}", 0) for why in ("overflow", "too_many")) + counts()["accepted"]
            == 500
        ),
        HANGS_S,
        "all to be counted",
    )
    assert counts()["accepted"] >= BURST
    told = [told for _, told, _ in lab.publisher.notes if told["state"] == "rejected"]
    assert len(told) <= counts().get("rejected_too_many", 0)


def test_rejected_ones_are_told_why(lab: Lab) -> None:
    """A bad response topic and an unreadable message are answered on command/result."""
    lab.send("status", "a", response_topic="edge/other/command")
    lab.publisher.takers[TOPICS.command](Received(TOPICS.command, b"\xff", correlation=b"k"))
    wait_for(lambda: len(lab.publisher.notes) == 2, HANGS_S, "two answers")
    assert [(topic, told["state"]) for topic, told, _ in lab.publisher.notes] == [
        (TOPICS.command_result, "rejected")
    ] * 2
    assert [told["reason"].partition(":")[0] for _, told, _ in lab.publisher.notes] == [
        "response_topic",
        "malformed",
    ]
    assert lab.publisher.notes[1][2] == b"k"


def test_an_older_offer_is_no_update(lab: Lab) -> None:
    """Home Assistant would call it newer: the latest version is the one at work, unless another model is offered."""
    wait_for(lambda: TOPICS.model in lab.publisher.retained, HANGS_S, "the model at work")
    for name, version in (("good", 2), ("good", 3), ("good", 4), ("other", 1)):
        offer = json.dumps({**OFFER, "name": name, "version": version}).encode()
        lab.publisher.takers[TOPICS.model_available](Received(TOPICS.model_available, offer, retained=True))
    told = [m["latest_version"] for m in lab.publisher.retained[TOPICS.model]]
    assert told == ["good 3", "good 4", "other 1"]


def test_the_offered_model_is_installed_on_request(lab: Lab) -> None:
    """Home Assistant's fixed text makes a command of the retained offer; the model topic tells how far it is."""
    wait_for(lambda: TOPICS.model in lab.publisher.retained, HANGS_S, "the model at work")
    ask = lambda data, **more: lab.publisher.takers[TOPICS.command_update](  # noqa: E731
        Received(TOPICS.command_update, data, **more)
    )
    ask(b"install")
    offer = lab.publisher.takers[TOPICS.model_available]
    for bad in (b"{}", b"x" * 5000, b"\xff", json.dumps({**OFFER, "url": "file:///etc/passwd"}).encode()):
        offer(Received(TOPICS.model_available, bad, retained=True))
    ask(b"install")
    wait_for(lambda: lab.commands.counts().get("rejected_unknown") == 2, HANGS_S, "no offer")
    offer(Received(TOPICS.model_available, json.dumps(OFFER).encode(), retained=True))
    ask(b"install", retained=True)
    ask(b"rm")
    ask(b"install")
    wait_for(lambda: lab.commands.counts().get("done") == 1, HANGS_S, "the installation")
    assert lab.operations.done == [
        ("model.install", {"url": "http://x/m.zip", "sha256": "0" * 64, "version": 4})
    ]
    wait_for(lambda: len(lab.publisher.retained[TOPICS.model]) == 4, HANGS_S, "the end of it")
    told = [
        (m["installed_version"], m["latest_version"], m["in_progress"], m["update_percentage"])
        for m in lab.publisher.retained[TOPICS.model]
    ]
    assert told == [
        ("good 3", "good 3", False, None),
        ("good 3", "good 4", False, None),
        ("good 3", "good 4", True, 50),
        ("good 3", "good 4", False, None),
    ]
    counts = lab.commands.counts()
    assert (counts["rejected_retained"], counts["rejected_malformed"]) == (1, 1)
