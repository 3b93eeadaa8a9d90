"""What a running agent can be told: each operation checks what it is given, and says what came of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import CameraConfig, Config, Sampling
from agent.errors import AgentError, BadConfig, UsageError
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


ANY = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text(max_size=40)
)
KEYS = st.sampled_from(["camera", "mode", "hz", "every_n", "min_hz", "threshold", "url", "sha256", "version"])


@given(
    name=st.sampled_from(sorted(NAMES)) | st.text(max_size=80),
    args=st.dictionaries(
        KEYS | st.text(max_size=80), ANY | st.lists(ANY, max_size=3) | st.just("yard") | st.just("x" * 70_000)
    ),
)
def test_whatever_it_is_given_it_says_one_short_line_or_does_it(name: str, args: dict[str, object]) -> None:
    """Nothing but a fault that a user can mend is raised, in a line that a terminal can show."""
    agent = Agent()
    try:
        operations(agent).do(name, args, agent.did.append)
    except AgentError as told:
        line = str(told)
        assert len(line) < 500
        line.encode()
        assert agent.did == []
        assert agent.camera == YARD


@pytest.mark.parametrize(
    ("op", "args", "line"),
    [
        ("sampling.set", {"camera": "yard", "hz": "abc"}, "sampling.set: hz: 'abc'; give a number"),
        (
            "sampling.set",
            {"camera": "yard", "mode": "often"},
            "sampling.set: mode: 'often'; give one of interval, motion, uniform",
        ),
        ("sampling.set", {"hz": 1}, "sampling.set: camera: nothing; give text"),
        ("status", {"more": 1}, "status: unknown argument: 'more'; it takes none"),
        (
            "camera.enable",
            {"camera": "yard", "x" * 70_000: 1},
            f"camera.enable: unknown argument: '{'x' * 63}...; there is camera",
        ),
        (
            "model.install",
            {"url": "https://x", "sha256": "a", "version": 10**9999},
            "model.install: version: a number of thousands of digits; give a whole number or null",
        ),
    ],
)
def test_what_is_wrong_is_told_with_what_was_seen_and_what_to_give(
    op: str, args: dict[str, object], line: str
) -> None:
    """One line: which argument of which operation, the value, and what it takes."""
    with pytest.raises(UsageError) as told:
        do(Agent(), op, **args)
    assert str(told.value) == line


def test_without_a_store_it_says_why() -> None:
    """A model that the configuration names is not changed by command."""
    powers = Powers(
        status=dict, reload=str, camera=Agent().change, unused="the configuration names the model"
    )
    for name in ("model.rollback", "model.adopt"):
        with pytest.raises(UsageError, match="the configuration names the model"):
            Operations(powers).do(name, {}, print)
