"""What a running agent can be told: each operation checks what it is given, and says what came of it."""

from __future__ import annotations

from typing import Any

import pytest

from agent.config import CameraConfig, Config, Sampling
from agent.errors import BadConfig, UsageError
from agent.operations import LOCAL, NAMES, REMOTE, Operations, Powers
from agent.overrides import settings_of

YARD = CameraConfig(name="yard", source="a.mp4")
CONFIG = Config(camera=(YARD,), sampling=Sampling(mode="uniform", hz=3))


class Agent:
    """Stands in for what is at work: keeps one camera, and its models."""

    def __init__(self) -> None:
        self.camera = YARD
        self.did: list[object] = []

    def change(self, name: str, edit: Any) -> Any:
        if name != "yard":
            raise UsageError("no such camera", seen=name)
        self.camera = edit(self.camera, CONFIG)
        return settings_of(self.camera, CONFIG)

    def adopt(self) -> str:
        self.did.append("adopt")
        return "a model"

    def roll_back(self, why: str) -> str:
        self.did.append(why)
        return "the one before"

    def install(self, source: Any, progress: Any) -> object:
        progress({"step": "download"})
        self.did.append((source.url, source.sha256, source.version))
        return {"changed": True}


def operations(agent: Any) -> Operations:
    return Operations(
        Powers(
            status=lambda: {"verdict": "ok"},
            reload=lambda: "no camera changed",
            camera=agent.change,
            adopting=agent,
            installer=agent,
        )
    )


def do(agent: Agent, name: str, **args: object) -> Any:
    return operations(agent).do(name, args, agent.did.append)


def test_each_says_what_came_of_it() -> None:
    """The names are those of `NAMES`, and there is one more than may be asked for from outside."""
    agent = Agent()
    assert do(agent, "status") == {"verdict": "ok"}
    assert do(agent, "reload") == {"reloaded": "no camera changed"}
    assert do(agent, "model.rollback") == {"model": "the one before"}
    assert do(agent, "model.adopt") == {"model": "a model"}
    assert do(agent, "model.install", url="https://x/m.zip", sha256="ab") == {"changed": True}
    assert agent.did == ["by command", "adopt", {"step": "download"}, ("https://x/m.zip", "ab", None)]
    assert REMOTE == NAMES - {"model.adopt"} == NAMES - LOCAL


def test_a_camera_is_switched_and_sampled() -> None:
    """What is not named of a sampling stays as it is; nothing named: as it is configured."""
    agent = Agent()
    assert not do(agent, "camera.disable", camera="yard")["enabled"]
    assert not agent.camera.enabled
    assert do(agent, "camera.enable", camera="yard")["enabled"]
    now = do(agent, "sampling.set", camera="yard", hz=1)["sampling"]
    assert (now.mode, now.hz) == ("uniform", 1.0)
    assert agent.camera.sampling == Sampling(mode="uniform", hz=1.0)
    assert do(agent, "sampling.set", camera="yard")["sampling"].hz == 3.0
    assert agent.camera.sampling is None


@pytest.mark.parametrize(
    ("name", "args", "kind"),
    [
        ("shutdown", {}, UsageError),
        ("x" * 100_000, {}, UsageError),
        ("status", {"more": 1}, UsageError),
        ("reload", {"file": "/etc/passwd"}, UsageError),
        ("camera.enable", {}, UsageError),
        ("camera.enable", {"camera": 1}, UsageError),
        ("camera.enable", {"camera": "other"}, UsageError),
        ("camera.disable", {"camera": "yard", "enabled": False}, UsageError),
        ("sampling.set", {"camera": "yard", "mode": "often"}, UsageError),
        ("sampling.set", {"camera": "yard", "hz": "2"}, UsageError),
        ("sampling.set", {"camera": "yard", "hz": -1}, BadConfig),
        ("sampling.set", {"camera": "yard", "speed": 1}, UsageError),
        ("sampling.set", {"mode": "uniform"}, UsageError),
        ("model.install", {"url": "https://x"}, UsageError),
        ("model.install", {"url": "https://x", "sha256": "a", "trusted_key": "mine"}, UsageError),
        ("model.install", {"url": "/srv/unsigned.zip", "sha256": "a"}, UsageError),
        ("model.install", {"url": "file:///etc", "sha256": "a"}, UsageError),
        ("model.rollback", {"to": "any"}, UsageError),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, args: dict[str, object], kind: type[Exception]) -> None:
    """In one short line, with nothing changed."""
    agent = Agent()
    with pytest.raises(kind) as told:
        operations(agent).do(name, args, agent.did.append)
    assert len(str(told.value)) < 500
    assert agent.did == []
    assert agent.camera == YARD


def test_without_a_store_it_says_why() -> None:
    """A model that the configuration names is not changed by command."""
    powers = Powers(
        status=dict, reload=str, camera=Agent().change, unused="the configuration names the model"
    )
    for name in ("model.rollback", "model.adopt"):
        with pytest.raises(UsageError, match="the configuration names the model"):
            Operations(powers).do(name, {}, print)
