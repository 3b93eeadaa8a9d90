"""The default model taken over while it is at work, on a disk that is full, or while its cameras leave."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from agent.adopting import Adopting
from agent.config import ModelsConfig
from agent.defaultmodel import DefaultModel
from agent.engines import Engines
from agent.errors import CannotCreate, TryAgain
from agent.modelstore import ModelStore
from agent.modelstore.install import Options, install
from agent.modelstore.trial import TrialResult
from agent.probation import Probation, Ruling
from tests.broken_models import make_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """Return a store whose trials all pass."""

    def passes(bundle: Path, sha: str, *_: object) -> TrialResult:
        return TrialResult(sha, "here", "2026-01-01T00:00:00Z", 0.1)

    monkeypatch.setattr("agent.modelstore.install.try_bundle", passes)
    return ModelStore(tmp_path / "models")


def put(store: ModelStore, folder: Path, version: int) -> str:
    """Install another version, and return its sha."""
    return install(store, str(make_bundle(folder / f"v{version}", version=version)), Options()).sha


def at_once(do: Callable[[], Any]) -> Any:
    """Be the main thread."""
    return do()


@pytest.fixture
def pending(store: ModelStore, tmp_path: Path) -> Iterator[tuple[str, DefaultModel, Adopting]]:
    """Give a committed model's sha, and the pending one after it at work."""
    good = put(store, tmp_path, 1)
    store.commit(good)
    put(store, tmp_path, 2)
    default = DefaultModel(store)
    with Engines(eager=False, tell=pytest.fail, default=default) as engines:
        engines.room(None)
        adopting = Adopting(default, engines, ModelsConfig(), at_once)
        adopting.look(1.0)
        yield good, default, adopting


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store write nothing."""

    def refuse(*_: object) -> None:
        raise CannotCreate("no room")

    monkeypatch.setattr("agent.modelstore.store.write_whole", refuse)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the errors in the log."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def rule(monkeypatch: pytest.MonkeyPatch, ruling: Ruling) -> None:
    """Have the model at work judged like that."""
    monkeypatch.setattr(Probation, "step", lambda *_: ruling)


def test_a_bad_model_makes_way_also_when_the_disk_is_full(
    pending: tuple[str, DefaultModel, Adopting],
    full: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody can note that it failed: the one before runs all the same, and that is told once, not each second."""
    good, default, adopting = pending
    rule(monkeypatch, Ruling("back", "its outputs are not finite"))
    for second in range(2, 10):
        adopting.look(second)
    assert (default.running.sha, default.running.state) == (good, "committed")
    assert "not finite" in default.given_up
    assert len(told(caplog)) <= 3, told(caplog)


def test_what_came_before_the_first_look_counts(
    pending: tuple[str, DefaultModel, Adopting], store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model is looked at once a second: its first frame may be nonsense before that."""
    good, default, adopting = pending
    monkeypatch.setattr("agent.engineroom.EngineRoom.not_finite", 1)
    adopting._watched = None
    adopting.look(2.0)
    adopting.look(3.0)
    assert default.running.sha == good
    assert list(store.read().quarantine.values()) == ["its outputs are not finite"]


def test_what_can_t_be_committed_is_told_once(
    pending: tuple[str, DefaultModel, Adopting],
    full: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A full disk stays full for days, and the model is judged each second."""
    _, default, adopting = pending
    rule(monkeypatch, Ruling("commit"))
    for _ in range(10):
        adopting._try_to_look()
    assert default.running.state == "pending"
    assert told(caplog) == ["models: CannotCreate: no room"]


def test_what_was_installed_while_the_agent_started_is_taken_on(store: ModelStore, tmp_path: Path) -> None:
    """Nobody could be told of it yet: the first look sees it, and so does that after the first camera came."""
    default = DefaultModel(store)
    with Engines(eager=False, tell=pytest.fail, default=default) as engines:
        adopting = Adopting(default, engines, ModelsConfig(), at_once)
        for version in (1, 2):
            engines.room(None)
            sha = put(store, tmp_path, version)
            adopting.look(version)
            assert default.running.sha == sha
            engines.keep(())
            adopting.look(version)


def test_a_model_is_not_blamed_for_cameras_that_left(store: ModelStore, tmp_path: Path) -> None:
    """The last camera of the default model was switched off while the new one was opened: the next one runs it."""
    default = DefaultModel(store)
    with Engines(eager=False, tell=pytest.fail, default=default) as engines:
        engines.room(None)
        sha = put(store, tmp_path, 1)

        def main(do: Callable[[], Any]) -> Any:
            engines.keep(())
            return do()

        with pytest.raises(TryAgain, match="no camera runs the default model"):
            Adopting(default, engines, ModelsConfig(), main).adopt()
        assert (store.read().current, store.read().quarantine) == (sha, {})
        engines.room(None)
        assert default.running.sha == sha
