"""The store on a real disk: whatever comes in whatever order, something runs, and nothing old comes back."""

from __future__ import annotations

import errno
import hashlib
import logging
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.errors import BadData, CannotCreate, TryAgain, UsageError
from agent.modelstore import ModelStore
from agent.modelstore.collecting import alone, clear_leftovers, collect
from agent.modelstore.install import Options, install
from agent.modelstore.state import Candidate, StoreState, admit
from agent.modelstore.store import LOCK, STATE, try_lock
from agent.modelstore.trial import TrialResult
from tests.broken_models import make_bundle

VERSIONS = st.integers(1, 5)


def add(store: ModelStore, name: str, version: int) -> Candidate:
    """Put a bundle, as far as the store looks at it, where it belongs."""
    text = f"{name} {version}".encode()
    model = Candidate(hashlib.sha256(text).hexdigest(), "", name, version)
    with store.versions.draft() as draft:
        (draft / "model.toml").write_bytes(text)
        if not store.versions.path(model.sha).exists():
            store.versions.place(draft, model, "test")
    return model


class Stored(RuleBasedStateMachine):
    """Any sequence of events, with files that get lost in between."""

    @initialize()
    def begin_empty(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.highest: dict[str, int] = {}

    @property
    def store(self) -> ModelStore:
        """Each event is that of another process."""
        return ModelStore(self.folder / "models")

    @rule(name=st.sampled_from(["street", "yard"]), version=VERSIONS)
    def install(self, name: str, version: int) -> None:
        model = add(self.store, name, version)
        before = self.store.read()
        try:
            admit(before, model)
        except BadData:
            return
        after = self.store.put(model)
        assert after.current == model.sha
        self.highest[name] = max(self.highest.get(name, 0), version)

    @rule()
    def begin(self) -> None:
        before = self.store.read()
        path = self.store.begin()
        after = self.store.read()
        assert path == self.store.bundle()
        if before.pending and after.pending:
            assert after.attempts == before.attempts + 1 <= 3

    @rule()
    def commit(self) -> None:
        self.store.commit(self.store.read().current or "")

    @rule()
    def end(self) -> None:
        self.store.release(self.store.read().current or "")

    @rule()
    def fail(self) -> None:
        current = self.store.read().current
        if current is not None:
            self.store.fail(current, "bad")
            assert self.store.read().current != current

    @rule()
    def roll_back(self) -> None:
        try:
            self.store.rollback("test")
        except UsageError:
            assert self.store.read().current is None

    @rule(quota=st.sampled_from([0, 20, 10**9]))
    def collect(self, quota: int) -> None:
        kept = self.store.read().kept
        with alone(self.store.folder):
            clear_leftovers(self.store)
            collect(self.store, quota)
        assert kept <= self.store.versions.there()

    @rule()
    def lose_the_current_one(self) -> None:
        if (path := self.store.bundle()) is not None:
            shutil.rmtree(path)

    @invariant()
    def something_runs(self) -> None:
        path = self.store.bundle()
        assert path is None or (path / "model.toml").is_file()

    @invariant()
    def what_a_rollback_gives_is_there(self) -> None:
        previous = self.store.read().previous
        assert previous is None or previous in self.store.versions.there()

    @invariant()
    def the_ratchet_never_falls(self) -> None:
        assert self.store.read().ratchet.get("", {}) == self.highest

    @invariant()
    def nothing_in_quarantine_runs(self) -> None:
        state = self.store.read()
        assert not state.kept & state.quarantine.keys()

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


TestStored = Stored.TestCase
TestStored.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Return a store that is not there yet."""
    return ModelStore(tmp_path / "models")


def test_a_store_that_is_not_there_gives_the_factory_model(store: ModelStore) -> None:
    """And asking for it makes no folder."""
    assert (store.read(), store.bundle(), store.begin()) == (StoreState(), None, None)
    assert not store.folder.exists()


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"schema": "x"}', b"\0" * 100, b'{"current": 3}', b"\xff\xfe"]
)
def test_a_damaged_state_is_told_and_the_factory_model_runs(
    store: ModelStore, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """What was installed may not come back in an older version, and the next change writes the file anew."""
    store.put(add(store, "street", 4))
    (store.folder / STATE).write_bytes(content)
    assert store.begin() is None
    assert "can't be read" in caplog.text
    with pytest.raises(BadData, match="older"):
        admit(store.read(), Candidate("c" * 64, "", "street", 3))
    store.put(add(store, "street", 5))
    assert ModelStore(store.folder).read().ratchet == {"": {"street": 5}}


def test_a_pending_model_is_not_tried_where_attempts_can_not_be_counted(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that fails or is full: the model before it runs, and nothing is changed."""

    def full(*_: object) -> None:
        raise CannotCreate("no room", fix="make room")

    first, second = add(store, "street", 1), add(store, "street", 2)
    store.put(first)
    store.commit(first.sha)
    store.put(second)
    monkeypatch.setattr("agent.modelstore.store.write_whole", full)
    assert store.begin() == store.versions.path(first.sha)
    assert "is not tried" in caplog.text
    assert store.read().current == second.sha


def test_another_process_is_waited_for_and_not_for_ever(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is held for as long as a small file takes."""
    store.put(add(store, "street", 1))
    monkeypatch.setattr("agent.modelstore.store._LOCKED_S", 0.0)
    with (store.folder / LOCK).open("ab") as file:
        assert try_lock(file.fileno())
        with pytest.raises(TryAgain, match="is held"):
            store.rollback("test")
    store.rollback("test")


def test_the_quota_takes_the_oldest_and_never_what_runs(store: ModelStore) -> None:
    """Models in quarantine go first, whatever the quota."""
    models = [add(store, "street", version) for version in (1, 2, 3, 4, 5)]
    for model in models:
        store.put(model)
        store.commit(model.sha)
    store.fail(models[0].sha, "bad")
    with alone(store.folder):
        assert collect(store, 10**9).models == (models[0].sha,)
        assert set(collect(store, 0).models) == {models[1].sha, models[2].sha}
        assert collect(store, 0).models == ()
    assert store.versions.there() == {models[3].sha, models[4].sha} == store.read().kept


def test_leftovers_are_removed_and_only_one_works_at_a_time(store: ModelStore) -> None:
    """Half-made bundles and cut downloads; beside an installation nothing is touched."""
    (store.folder / "downloads").mkdir(parents=True)
    (store.folder / "downloads" / "x.part").write_bytes(b"123")
    (store.folder / "versions" / "y.part").mkdir(parents=True)
    with alone(store.folder):
        with pytest.raises(TryAgain, match="being installed"), alone(store.folder):
            pass
        removed = clear_leftovers(store)
    assert set(removed.leftovers) == {"x.part", "y.part"}
    assert removed.freed_bytes == 3


def test_one_bundle_that_can_t_be_looked_at_hides_no_other(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory of another user, or on a bad block: what runs is not forgotten with the next change."""
    good, odd = add(store, "street", 1), add(store, "street", 2)
    store.put(good)
    real = Path.is_file

    def is_file(path: Path) -> bool:
        if path.parent.name == odd.sha:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "is_file", is_file)
    store.commit(good.sha)
    assert store.bundle() == store.versions.path(good.sha)


def test_what_can_t_be_removed_is_no_fault_of_an_installation(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The model is in its place by then: it must be told to the agent as installed."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    def passes(bundle: Path, sha: str, *_: object) -> TrialResult:
        return TrialResult(sha, "here", "2026-01-01T00:00:00Z", 0.1)

    monkeypatch.setattr("agent.modelstore.install.try_bundle", passes)
    monkeypatch.setattr("agent.modelstore.install.collect", refuse)
    done = install(store, str(make_bundle(tmp_path / "v1")), Options())
    assert done.changed
    assert store.read().current == done.sha
    assert "can't be removed" in caplog.text


def test_a_link_to_nowhere_is_no_fault_of_a_collection(store: ModelStore) -> None:
    """Whoever put it there: its model is still removed for the quota."""
    for version in (1, 2, 3):
        model = add(store, "street", version)
        (store.versions.path(model.sha) / "link").symlink_to("/nowhere")
        store.put(model)
        store.commit(model.sha)
    with alone(store.folder):
        assert len(collect(store, 0).models) == 1


def test_changes_are_logged_in_words(store: ModelStore, caplog: pytest.LogCaptureFixture) -> None:
    """A model that never got to work is told with the reason."""
    store.put(add(store, "street", 1))
    with caplog.at_level(logging.ERROR):
        for _ in range(4):
            store.begin()
    assert "3 starts" in caplog.text
