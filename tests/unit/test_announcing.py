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

    def start(self, prefix: str | None = "homeassistant", seed: int = 1, *, device: str = "dev1") -> None:
        """Begin anew, as after a restart."""
        self.publisher.sent.clear()
        given: Any = self.publisher
        self.announcer = Announcer(
            given,
            Device(device, Topics.of(device), "1"),
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


def test_many_that_leave_at_once_are_all_removed(lab: Lab) -> None:
    """Ten cameras of eighty labels."""
    lab.cameras = {f"c{n}": tuple(f"label{m}" for m in range(80)) for n in range(10)}
    lab.look()
    before = lab.components()
    lab.cameras = {"yard": ()}
    lab.look()
    assert before.keys() <= lab.components().keys()


def test_a_device_of_another_name_is_told_where_the_old_one_can_not_be_taken_back(
    lab: Lab, tmp_path: Path
) -> None:
    """Its new login may not write the old topic: it tries that again at each start, and tells of itself."""
    lab.look()
    lab.publisher.has = False
    lab.start(device="dev2")
    told = lab.look()
    assert [topic for topic, _ in told] == [TOPIC, "homeassistant/device/dev2/config"]
    kept = json.loads((tmp_path / FILE).read_bytes())
    assert (kept["topic"], kept["leaving"]) == ("homeassistant/device/dev2/config", [TOPIC])
    lab.start()
    assert [topic for topic, payload in lab.look() if payload] == [TOPIC]
    assert json.loads((tmp_path / FILE).read_bytes())["leaving"] == ["homeassistant/device/dev2/config"]


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
    now = [] if prefix is None else ["ha/discovery/device/dev1/config"]
    for _ in range(2):
        lab.start(prefix)
        told = lab.look()
        assert told[0] == (TOPIC, b"")
        assert [topic for topic, _ in told[1:]] == now
        assert lab.look() == []
    lab.publisher.has = True
    assert lab.look() == []
    lab.start(prefix)
    assert [topic for topic, _ in lab.look()] == now
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
