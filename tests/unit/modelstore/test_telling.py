"""The agent is told that its store has changed, the right one, and whatever it answers is no fault of the command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.control import Control
from agent.errors import BadData
from agent.modelstore import telling
from agent.modelstore.telling import tell_agent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Agent:
    """Has a state directory, and answers to model.adopt with `fault` if there is one."""

    def __init__(self, state_dir: Path, fault: Exception | None = None) -> None:
        self._state_dir, self._fault = state_dir, fault
        self.adopted = 0

    def do(
        self, name: str, args: Mapping[str, object], progress: Callable[[Mapping[str, object]], None]
    ) -> object:
        """Answer as `agent.operations` does."""
        if name == "status":
            return {"state_dir": str(self._state_dir)}
        self.adopted += 1
        if self._fault:
            raise self._fault
        return {"model": None}


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no service of this machine in between."""
    monkeypatch.setattr(telling, "_SERVICE", tmp_path / "run")
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)


@pytest.mark.parametrize("place", ["state", "run"])
def test_the_agent_takes_it_on(tmp_path: Path, place: str) -> None:
    """One that has its socket in its state directory, or the service."""
    agent = Agent(tmp_path / "state")
    with Control(tmp_path / place, agent):
        assert tell_agent(tmp_path / "state") == "the agent has taken it on"
    assert agent.adopted == 1


def test_another_agent_is_left_alone(tmp_path: Path) -> None:
    """The service has another state directory than the one that was named."""
    agent = Agent(tmp_path / "other")
    with Control(tmp_path / "run", agent):
        assert "no agent runs here" in tell_agent(tmp_path / "state")
    assert agent.adopted == 0


def test_what_the_agent_has_against_it_is_told(tmp_path: Path) -> None:
    """In words."""
    with Control(tmp_path / "state", Agent(tmp_path / "state", BadData("it does not load"))):
        assert "has not taken it on: it does not load" in tell_agent(tmp_path / "state")


def test_without_an_agent_the_next_start_takes_it_on(tmp_path: Path) -> None:
    """Also where one has died and left its socket."""
    assert "the next start" in tell_agent(tmp_path / "state")
