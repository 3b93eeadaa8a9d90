"""The default model: what the store says runs, and a bad one makes way for the one before, at once."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from agent.bundle import load_bundle
from agent.defaultmodel import DefaultModel
from agent.errors import (
    BadConfig,
    BadData,
    InputMissing,
    IOFault,
    NotPermitted,
    ServiceAway,
    TryAgain,
)
from agent.modelhealth import model_health
from agent.modelstore import ModelStore
from agent.modelstore.install import Options, install
from agent.modelstore.trial import TrialResult
from agent.starter import starter_bundle
from agent.wire import Model
from tests.broken_models import make_bundle, sha_of

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """Return a store whose trials all pass: what comes after them is what is tested here."""

    def passes(bundle: Path, sha: str, *_: object) -> TrialResult:
        return TrialResult(sha, "here", "2026-01-01T00:00:00Z", 0.1)

    monkeypatch.setattr("agent.modelstore.install.try_bundle", passes)
    return ModelStore(tmp_path / "models")


@pytest.fixture
def add(store: ModelStore, tmp_path: Path) -> Callable[..., str]:
    """Return a function that installs another version, and returns its sha."""
    versions = iter(range(1, 100))

    def add(*, commit: bool = True) -> str:
        version = next(versions)
        made = make_bundle(tmp_path / f"v{version}", version=version)
        sha = install(store, str(made), Options()).sha
        if commit:
            store.commit(sha)
        return sha

    return add


class Load:
    """Opens bundles; those that are `bad` raise what stands for them."""

    def __init__(self, **bad: Exception) -> None:
        self.bad, self.seen = bad, list[str]()

    def __call__(self, path: Path) -> str:
        self.seen.append(path.name)
        if fault := self.bad.get(path.name):
            raise fault
        return path.name


FACTORY = starter_bundle().name


def test_the_starter_runs_where_nothing_was_installed(store: ModelStore) -> None:
    """An empty store is no fault, and stays empty."""
    model = DefaultModel(store)
    assert model.open(Load()) == FACTORY
    assert (model.running.sha, model.running.state, model.given_up) == ("", "factory", "")
    assert not store.folder.exists()


def test_a_pending_model_is_counted_before_it_is_loaded(store: ModelStore, add: Callable[..., str]) -> None:
    """A start that dies while it loads has used one of three attempts."""
    sha = add(commit=False)
    seen = []

    def load(path: Path) -> str:
        seen.append(store.read().attempts)
        return path.name

    model = DefaultModel(store)
    assert model.open(load) == sha
    assert seen == [1]
    assert model.running.state == "pending"
    model.commit()
    assert (model.running.state, store.read().standing) == ("committed", "committed")


@pytest.mark.parametrize("fault", [BadData("torn"), BadConfig("no such label"), RuntimeError("odd")])
def test_a_pending_model_that_can_t_be_loaded_makes_way(
    store: ModelStore, add: Callable[..., str], fault: Exception
) -> None:
    """Whatever is wrong with it: the one before runs in the same start, it is told, and it never comes back."""
    good, bad = add(), add(commit=False)
    model = DefaultModel(store)
    assert model.open(Load(**{bad: fault})) == good
    assert model.given_up.startswith(f"{bad[:12]} was given up: ")
    assert bad in store.read().quarantine
    assert DefaultModel(store).open(Load()) == good


def test_a_committed_model_that_is_damaged_makes_way_for_the_factory_s(
    store: ModelStore, add: Callable[..., str], tmp_path: Path
) -> None:
    """Both that are there are damaged: something runs all the same, and they may be installed again."""
    one, two = add(), add()
    for sha in (one, two):
        file = store.versions.path(sha) / "fp32.tflite"
        raw = bytearray(file.read_bytes())
        raw[100] ^= 1
        file.write_bytes(raw)
    model = DefaultModel(store)
    assert model.open(lambda path: load_bundle(path).path.name) == FACTORY
    assert "wrong sha256" in model.given_up
    assert store.versions.there() == frozenset()
    again = install(store, str(tmp_path / "v2"), Options())
    assert (again.sha, again.changed) == (two, True)
    assert DefaultModel(store).open(Load()) == two


def test_a_committed_model_that_can_t_be_loaded_is_unfit_for_the_runtime(
    store: ModelStore, add: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are whole and it has worked: on another runtime it runs again, by itself."""
    sha = add()
    assert DefaultModel(store).open(Load(**{sha: BadData("odd")})) == FACTORY
    state = store.read()
    assert (state.quarantine, state.unfit) == ({}, {sha: "odd"})
    later = DefaultModel(store)
    assert later.open(Load()) == FACTORY
    assert later.given_up == f"{sha[:12]} does not run: odd", "it is told as long as that lasts"
    for place in ("store", "trial", "install"):
        monkeypatch.setattr(f"agent.modelstore.{place}.runtime", lambda: "another")
    monkeypatch.setattr("agent.defaultmodel.runtime", lambda: "another")
    assert DefaultModel(store).open(Load()) == sha


def test_a_committed_model_that_ends_the_process_on_a_new_runtime_gets_three_starts(
    store: ModelStore, add: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent was upgraded: the fourth start runs the one before, which is tried as well, then the factory's."""
    one, two = add(), add()
    monkeypatch.setattr("agent.modelstore.store.runtime", lambda: "newer")
    monkeypatch.setattr("agent.defaultmodel.runtime", lambda: "newer")
    seen = [DefaultModel(store).open(Load()) for _ in range(7)]
    assert seen == [two] * 3 + [one] * 3 + [FACTORY]
    assert store.read().quarantine == {}


def test_a_committed_model_is_proven_on_a_new_runtime(
    store: ModelStore, add: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it has worked no start counts; an orderly end and a setting that is wrong count none either."""
    sha = add()
    monkeypatch.setattr("agent.modelstore.store.runtime", lambda: "newer")
    monkeypatch.setattr("agent.defaultmodel.runtime", lambda: "newer")
    for _ in range(5):
        model = DefaultModel(store)
        model.open(Load())
        model.leave()
        with pytest.raises(BadConfig):
            DefaultModel(store).open(Load(**{sha: BadConfig("no such label")}))
    model = DefaultModel(store)
    assert model.open(Load()) == sha
    seen = [model.running.on_trial]
    model.commit()
    assert [*seen, model.running.on_trial] == [True, False]
    assert not store.on_trial
    for _ in range(5):
        assert DefaultModel(store).open(Load()) == sha


def test_a_store_that_can_t_be_read_lets_the_factory_s_run(
    store: ModelStore, add: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong and what mends it is told; nothing is changed, nor does what runs meanwhile."""
    sha = add()
    real = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path.name == "store.json":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", read_bytes)
        model = DefaultModel(store)
        assert model.open(Load()) == FACTORY
        assert not store.on_trial
        assert "store.json: Permission denied; run this as the agent's user" in model.given_up
        assert model.wanted() == model.running.sha
        with pytest.raises(NotPermitted):
            model.follow(Load())
    model.follow(Load())
    assert (model.running.sha, model.given_up) == (sha, "")


@pytest.mark.parametrize("fault", [BadConfig("no such label"), ServiceAway("busy"), IOFault("disk")])
def test_what_is_not_the_model_s_fault_is_not_held_against_it(
    store: ModelStore, add: Callable[..., str], fault: Exception
) -> None:
    """A committed model and a setting that does not fit it: the setting is wrong."""
    sha = add()
    with pytest.raises(type(fault)):
        DefaultModel(store).open(Load(**{sha: fault}))
    assert store.read().current == sha


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "factory"])
def test_settings_that_fit_no_model_are_not_held_against_the_pending_one(
    store: ModelStore, add: Callable[..., str], committed: bool
) -> None:
    """The model before does not have the label either: no start takes an attempt, and the next good one runs it."""
    before, wrong = add() if committed else FACTORY, BadConfig("no such label")
    new = add(commit=False)
    for _ in range(5):
        with pytest.raises(BadConfig):
            DefaultModel(store).open(Load(**{before: wrong, new: wrong}))
    state = store.read()
    assert (state.current, state.pending, state.attempts, state.quarantine) == (new, True, 0, {})
    assert DefaultModel(store).open(Load()) == new


def test_settings_that_fit_only_the_model_before_a_damaged_one(
    store: ModelStore, add: Callable[..., str]
) -> None:
    """The pending one and the damaged one before it make way, in one start."""
    damaged, new = add(), add(commit=False)
    model = DefaultModel(store)
    assert model.open(Load(**{damaged: BadData("torn"), new: BadConfig("no such label")})) == FACTORY
    state = store.read()
    assert (set(state.quarantine), set(state.unfit)) == ({new}, {damaged})
    assert model.running.state == "factory"


def test_three_starts_in_vain_are_enough(store: ModelStore, add: Callable[..., str]) -> None:
    """A model that ends the process each time: the fourth start runs the one before, and says so."""
    good, bad = add(), add(commit=False)
    for _ in range(3):
        assert DefaultModel(store).open(Load()) == bad
    model = DefaultModel(store)
    assert model.open(Load()) == good
    assert bad[:12] in model.given_up


def test_a_model_that_failed_at_work_is_not_what_the_next_start_takes(
    store: ModelStore, add: Callable[..., str]
) -> None:
    """An engine that fails or hangs costs one start, not three; a committed one is not given up for that."""
    good, bad = add(), add(commit=False)
    model = DefaultModel(store)
    model.open(Load())
    model.blame("it hangs")
    model.blame("it hangs")
    assert store.read().quarantine == {bad: "it hangs"}
    after = DefaultModel(store)
    assert after.open(Load()) == good
    after.blame("it hangs")
    assert store.read().current == good


def test_following_loads_only_what_does_not_run(store: ModelStore, add: Callable[..., str]) -> None:
    """The store went back to what is at work, for the new one failed: nothing is opened again."""
    good = add()
    model = DefaultModel(store)
    model.open(Load())
    bad = add(commit=False)
    load = Load(**{bad: BadData("torn")})
    model.follow(load)
    assert load.seen == [bad]
    assert (model.running.sha, str(model.fault)) == (good, "torn")
    model.roll_back("by hand")
    load = Load()
    model.follow(load)
    assert load.seen == [FACTORY]
    assert model.running.state == "factory"


def test_who_has_no_time_is_asked_again(store: ModelStore, add: Callable[..., str]) -> None:
    """Try again later is no verdict on a model: the one before runs meanwhile, and no start is counted."""
    good, busy = add(), add(commit=False)
    for _ in range(5):
        model = DefaultModel(store)
        assert model.open(Load(**{busy: TryAgain("busy")})) == good
        assert (model.running.state, model.given_up) == ("committed", f"{busy[:12]} has to wait: busy")
        assert model.wanted() == busy
        with pytest.raises(TryAgain):
            model.follow(Load(**{busy: TryAgain("busy")}))
    state = store.read()
    assert (state.current, state.pending, state.attempts) == (busy, True, 0)
    model.follow(Load())
    assert (model.running.sha, model.given_up) == (busy, "")
    with pytest.raises(TryAgain):
        DefaultModel(store).open(Load(**{busy: TryAgain("busy"), good: TryAgain("busy")}))


def test_a_damaged_model_before_one_that_has_to_wait(store: ModelStore, add: Callable[..., str]) -> None:
    """The factory's runs, and what waits is not loaded in between."""
    damaged, busy = add(), add(commit=False)
    load = Load(**{busy: TryAgain("busy"), damaged: BadData("torn")})
    assert DefaultModel(store).open(load) == FACTORY
    assert load.seen == [busy, damaged, FACTORY]


def test_what_runs_is_not_told_as_what_does_not(store: ModelStore, add: Callable[..., str]) -> None:
    """The one that a rollback would have given does not run on this runtime: the next start runs the current one."""
    unfit, busy = add(), add(commit=False)
    DefaultModel(store).open(Load(**{busy: TryAgain("busy"), unfit: BadData("no such operator")}))
    assert unfit in store.read().unfit
    model = DefaultModel(store)
    assert model.open(Load()) == busy
    assert model.given_up == ""


def test_a_store_that_can_t_be_written_still_lets_something_run(
    store: ModelStore, add: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bad model is not loaded again in this start: the factory's runs."""
    bad = add(commit=False)

    def refuse(*_: object) -> None:
        raise IOFault("the disk fails")

    monkeypatch.setattr(ModelStore, "fail", refuse)
    assert DefaultModel(store).open(Load(**{bad: BadData("torn")})) == FACTORY


def test_a_start_that_is_stopped_is_no_attempt(store: ModelStore, add: Callable[..., str]) -> None:
    """While the model is loaded somebody ends the agent: that tells nothing of the model."""
    add(commit=False)
    model, seen = DefaultModel(store), []

    def load(path: Path) -> str:
        seen.append(store.read().attempts)
        model.leave()
        return path.name

    model.open(load)
    assert (seen, store.read().attempts) == ([1], 0)
    assert not store.on_trial, (
        "what ends such starts again and again is not the model: they have to be slowed"
    )
    DefaultModel(store).open(Load())
    assert store.on_trial


def test_a_bundle_that_was_changed_in_place_is_another(tmp_path: Path) -> None:
    """The agent starts anew with the same path in its configuration: what it tells is of the bundle that runs."""
    path, told = tmp_path / "bundle", []
    model = Model("street", 1, "ab", "int8", "none")
    for version in (1, 2):
        bundle = load_bundle(make_bundle(path, version=version))
        engines: Any = SimpleNamespace(at=lambda _, of=bundle: SimpleNamespace(model=model, bundle=of))
        health = model_health(engines, path, None)
        assert health is not None
        assert health.bundle_sha == sha_of(path)
        told.append(health.bundle_sha)
        shutil.rmtree(path)
    assert told[0] != told[1]


def test_a_model_that_is_not_there_is_no_fault_of_the_disk(store: ModelStore, tmp_path: Path) -> None:
    """The line names what was given."""
    with pytest.raises(InputMissing, match="nowhere"):
        install(store, str(tmp_path / "nowhere"), Options())


def test_no_name_is_not_that_of_the_current_directory(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`model install -` with nothing on standard input installs nothing, also where a bundle lies."""
    monkeypatch.chdir(make_bundle(tmp_path / "here"))
    with pytest.raises(InputMissing, match="model not found"):
        install(store, "", Options())
