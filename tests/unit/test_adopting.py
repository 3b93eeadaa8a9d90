"""The default model taken over while it is at work, on a disk that is full, or while its cameras leave."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.adopting import Adopting
from agent.config import ModelsConfig
from agent.defaultmodel import DefaultModel
from agent.engines import Engines
from agent.errors import CannotCreate, TryAgain
from agent.modelstore import ModelStore
from agent.modelstore.install import Options, install
from agent.modelstore.question import Figures
from agent.modelstore.trial import TrialResult
from agent.probation import Probation, Ruling
from tests.broken_models import make_bundle
from tests.patience import HANGS_S

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


def test_a_camera_that_was_off_for_a_moment_begins_the_probation_anew(
    pending: tuple[str, DefaultModel, Adopting],
) -> None:
    """Between two looks its room made way for another, which counts its frames from the start."""
    _, _, adopting = pending
    adopting.look(2.0)
    adopting._engines.keep(())
    room = adopting._engines.room(None)
    adopting.look(3.0)
    assert adopting._watched is not None
    assert (adopting._watched.room, adopting._watched.begun_s) == (room, 3.0)


def test_cameras_that_are_switched_off_and_on_are_no_attempts(
    pending: tuple[str, DefaultModel, Adopting], store: ModelStore
) -> None:
    """Each time its model is opened anew: only a start that ended badly speaks against it."""
    _, default, adopting = pending
    new = default.running.sha
    for _ in range(5):
        adopting._engines.keep(())
        adopting._engines.room(None)
    assert (default.running.sha, store.read().attempts) == (new, 1)


def tries(monkeypatch: pytest.MonkeyPatch, trial: Callable[[], Figures | None]) -> None:
    """Have the model at work seem slow, and tried like that."""
    rule(monkeypatch, Ruling("slow", "too slow at work", lasting=False))
    monkeypatch.setattr(DefaultModel, "trial_now", lambda _: trial())


def figures(p95_ms: float, limit_ms: float) -> Figures:
    """Return those of a trial."""
    return Figures("tflite", 1, 1, p95_ms / 2, p95_ms, limit_ms, 0)


def refuse() -> Figures:
    """Be a device without memory for a trial."""
    raise TryAgain("not enough memory")


@pytest.mark.parametrize(
    ("trial", "work_ms", "back"),
    [
        (lambda: figures(200.0, 100.0), 10.0, "in a trial"),  # slower than the others may be
        (lambda: figures(20.0, 100.0), 150.0, "too slow at work: p95 150 ms, 100 ms at most"),
        (lambda: figures(20.0, 100.0), 90.0, ""),
        (lambda: None, 1e6, ""),
        (refuse, 1e6, ""),
    ],
)
def test_a_slow_model_is_judged_by_a_trial_of_the_same_moment(
    pending: tuple[str, DefaultModel, Adopting],
    store: ModelStore,
    monkeypatch: pytest.MonkeyPatch,
    trial: Callable[[], Figures | None],
    work_ms: float,
    back: str,
) -> None:
    """What its frames took before the trial began does not count; it goes without quarantine."""
    good, default, adopting = pending
    new = default.running.sha
    default.running = replace(default.running, limit_ms=100.0)
    room = adopting._engines.default_room
    assert room is not None
    recent = room.overlap.recent
    for _ in range(10):
        recent.observe(9.0, time.monotonic() - 1.0)

    def tried() -> Figures | None:
        for _ in range(10):
            recent.observe(work_ms / 1e3, time.monotonic())
        return trial()

    tries(monkeypatch, tried)
    adopting._watched = None
    adopting.look(2.0)
    adopting.look(3.0)
    assert back in default.given_up
    assert (default.running.sha, store.read().quarantine) == (good if back else new, {})


def test_nobody_waits_for_a_trial(
    pending: tuple[str, DefaultModel, Adopting], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may take minutes: a rollback is done meanwhile, and what the trial gives then is of no more use."""
    good, default, adopting = pending
    begun, over = threading.Event(), threading.Event()

    def slow() -> Figures:
        begun.set()
        over.wait(HANGS_S)
        return figures(200.0, 100.0)

    tries(monkeypatch, slow)
    default.running = replace(default.running, limit_ms=100.0)
    looking = threading.Thread(target=adopting.look, args=(2.0,), daemon=True)
    looking.start()
    assert begun.wait(HANGS_S)
    back = threading.Thread(target=adopting.roll_back, args=("by hand",), daemon=True)
    back.start()
    back.join(HANGS_S / 2)  # less than `slow` waits
    assert (back.is_alive(), default.running.sha) == (False, good)
    over.set()
    looking.join(HANGS_S)
    assert (default.running.sha, default.given_up) == (good, "")


def test_the_end_does_not_wait_for_a_trial(
    pending: tuple[str, DefaultModel, Adopting], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process ends with the agent."""
    _, default, adopting = pending
    begun, left, seen = threading.Event(), threading.Event(), list[bool]()

    def slow() -> Figures:
        begun.set()
        seen.append(left.wait(HANGS_S))
        return figures(200.0, 100.0)

    monkeypatch.setattr("agent.adopting._END_S", 2 * HANGS_S)
    tries(monkeypatch, slow)
    new = default.running.sha
    with adopting:
        assert begun.wait(HANGS_S)
    left.set()
    adopting._thread.join(HANGS_S)
    assert (seen, default.running.sha) == ([True], new)
