"""When Home Assistant is told, and what is taken back, on a clock of the test's."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from agent.announcing import FILE, SPREAD_S, Announcer
from agent.homeassistant import Device
from agent.topics import Topics
from agent.transport import Received

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TOPICS = Topics.of("dev1")
TOPIC = "homeassistant/device/dev1/config"


class Publisher:
    """Keeps what is retained; `told` says what the broker has."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.states: list[str] = []
        self.takers: dict[str, Callable[[Received], None]] = {}
        self.has = True

    def retain(self, topic: str, payload: bytes) -> None:
        self.sent.append((topic, payload))

    def retained_topics(self) -> list[str]:
        return self.states

    def told(self, topic: str) -> bool:
        return self.has

    def listen(self, topic: str, take: Callable[[Received], None], *, kept: bool = False) -> None:
        self.takers[topic] = take


class Lab:
    """An announcer that is asked to look by hand."""

    def __init__(self, folder: Path) -> None:
        self.publisher, self.now_s, self._folder = Publisher(), 0.0, folder
        self.cameras: dict[str, tuple[str, ...]] = {"yard": ("person",), "gate": ()}
        self.start()

    def start(self, prefix: str | None = "homeassistant", seed: int = 1) -> None:
        """Begin anew, as after a restart."""
        self.publisher.sent.clear()
        given: Any = self.publisher
        self.announcer = Announcer(
            given,
            Device("dev1", TOPICS, "1"),
            lambda: self.cameras,
            prefix=prefix,
            state_dir=self._folder,
            rng=random.Random(seed),
            clock=lambda: self.now_s,
        )

    def look(self) -> list[tuple[str, bytes]]:
        """Let it look once; return what was told by that."""
        before = len(self.publisher.sent)
        self.announcer.look(self.now_s)
        return self.publisher.sent[before:]

    def components(self) -> dict[str, Any]:
        """Return the components of the last message."""
        return dict(json.loads(self.publisher.sent[-1][1])["cmps"])


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Return a lab in a folder of its own."""
    return Lab(tmp_path)


def test_it_is_told_once_and_when_it_changes(lab: Lab) -> None:
    """Labels that a camera reports of itself are added as they come, and stay over a restart."""
    assert [topic for topic, _ in lab.look()] == [TOPIC]
    assert lab.look() == []
    assert "yard.person.count" in lab.components()
    assert "gate.car.count" not in lab.components()
    lab.publisher.states = [TOPICS.state("gate", "car"), TOPICS.state("yard", "dog"), TOPICS.status]
    assert len(lab.look()) == 1
    assert "gate.car.count" in lab.components()
    assert "yard.dog.count" not in lab.components()
    lab.publisher.states = []
    lab.start()
    lab.look()
    assert "gate.car.count" in lab.components()


def test_a_camera_that_leaves_is_removed(lab: Lab) -> None:
    """Also when it left while the agent was away; the message goes on to say so, until it is back."""
    lab.look()
    del lab.cameras["gate"]
    lab.start()
    lab.look()
    assert lab.components()["gate.event"] == {"p": "event"}
    lab.start()
    lab.look()
    assert lab.components()["gate.event"] == {"p": "event"}
    lab.cameras["gate"] = ()
    lab.look()
    assert len(lab.components()["gate.event"]) > 1


def test_it_is_told_again_when_home_assistant_starts(tmp_path: Path) -> None:
    """Within five seconds, each device at its own moment; other words than online are passed over."""
    moments = []
    for seed in range(20):
        folder = tmp_path / str(seed)
        folder.mkdir()
        lab = Lab(folder)
        lab.start(seed=seed)
        with lab.announcer:  # subscribes; its thread looks as well
            pass
        lab.look()
        lab.publisher.takers["homeassistant/status"](Received("homeassistant/status", b"offline"))
        lab.now_s = 100.0
        assert lab.look() == []
        lab.publisher.takers["homeassistant/status"](Received("homeassistant/status", b"online"))
        while not lab.look():
            lab.now_s += 0.1
            assert lab.now_s < 100.2 + SPREAD_S
        moments.append(lab.now_s)
        assert lab.look() == []
    assert max(moments) - min(moments) > SPREAD_S / 2


@pytest.mark.parametrize("prefix", [None, "ha/discovery"])
def test_it_is_taken_back(lab: Lab, tmp_path: Path, prefix: str | None) -> None:
    """When it is disabled, or the prefix is another: an empty message until the broker has it."""
    lab.look()
    lab.publisher.has = False
    lab.start(prefix)
    assert lab.look() == [(TOPIC, b"")]
    assert lab.look() == []
    lab.start(prefix)
    assert lab.look() == [(TOPIC, b"")]
    lab.publisher.has = True
    lab.look()
    assert [topic for topic, _ in lab.look()] == (
        [] if prefix is None else ["ha/discovery/device/dev1/config"]
    )
    lab.start(None)
    assert json.loads((tmp_path / FILE).read_text())["topic"] == (
        "" if prefix is None else "ha/discovery/device/dev1/config"
    )


@pytest.mark.parametrize("damage", [b"", b"\xff", b"[]", b'{"topic": 1}'])
def test_a_damaged_file_is_made_anew(lab: Lab, tmp_path: Path, damage: bytes) -> None:
    """All is told again."""
    (tmp_path / FILE).write_bytes(damage)
    lab.start()
    assert [topic for topic, _ in lab.look()] == [TOPIC]
    assert json.loads((tmp_path / FILE).read_bytes())["topic"] == TOPIC
