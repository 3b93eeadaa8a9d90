"""The engines on the disk: whole or not there, checked before they are used, removed when they are of no use."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.enginestore.key import RETRY_S, Failure, Key, Record, Target, due
from agent.enginestore.memory import bounds_for, headroom, workspace_for
from agent.enginestore.store import LOCK, PLAN, RECORD, TIMING, EngineStore
from agent.errors import NotPermitted

if TYPE_CHECKING:
    from pathlib import Path

ORIN = Target("10.3.0", "8.7", "36.4.3")
CONTENT = b"an engine" * 1000


def key(number: int = 0, target: Target = ORIN) -> Key:
    return Key(hashlib.sha256(bytes([number])).hexdigest(), target)


def put(store: EngineStore, made: Key, content: bytes = CONTENT) -> Path:
    """Store `content` as the engine of `made`; return its directory."""
    record = Record(
        key=made,
        model="tiny 1",
        artifact="int8.onnx",
        precision="int8",
        outputs=("scores",),
        made="2026-11-22T12:00:00.000Z",
        took_s=1.0,
        plan_bytes=len(content),
        plan_sha256=hashlib.sha256(content).hexdigest(),
    )
    with store.draft() as draft:
        (draft / PLAN).write_bytes(content)
        store.commit(draft, record)
    return store.folder / made.digest


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(tmp_path / "engines")


def test_what_was_stored_is_read_again_and_nothing_else_is_left(store: EngineStore) -> None:
    """An engine of another key is none; no draft stays."""
    assert not store.has(key())
    put(store, key())
    assert store.has(key())
    assert store.read(key()) == CONTENT
    assert store.read(key(1)) is None
    assert [path.name for path in store.folder.iterdir()] == [key().digest]


@pytest.mark.parametrize(
    "other",
    [
        Key("f" * 64, ORIN),
        Key(key().onnx_sha256, Target("10.3.1", "8.7", "36.4.3")),
        Key(key().onnx_sha256, Target("10.3.0", "8.9", "36.4.3")),
        Key(key().onnx_sha256, Target("10.3.0", "8.7", "36.5.0")),
        Key(key().onnx_sha256, ORIN, batch=4),
        Key(key().onnx_sha256, ORIN, flags=("another way",)),
    ],
)
def test_every_part_of_the_key_counts(store: EngineStore, other: Key) -> None:
    """Another ONNX file, TensorRT, GPU, L4T or way of building is another engine."""
    put(store, key())
    assert not store.has(other)
    assert store.read(other) is None
    assert store.has(key())


def damage(place: Path, how: str) -> None:
    plan = place / PLAN
    if how == "truncated":
        plan.write_bytes(CONTENT[:-1])
    elif how == "changed":
        plan.write_bytes(b"x" + CONTENT[1:])
    elif how == "missing":
        plan.unlink()
    elif how == "record of another":
        text = (place / RECORD).read_text()
        (place / RECORD).write_text(text.replace("10.3.0", "10.7.0"))
    else:
        (place / RECORD).write_text("{")


@pytest.mark.parametrize("how", ["truncated", "changed", "missing", "record of another", "no record"])
def test_a_damaged_engine_is_thrown_away_with_one_line(
    store: EngineStore, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not given out, and gone afterwards: there is room for a new one."""
    damage(put(store, key()), how)
    with caplog.at_level(logging.WARNING):
        assert store.read(key()) is None
    assert len(caplog.records) == 1
    assert "to be built anew" in caplog.text
    assert not store.has(key())
    put(store, key())
    assert store.read(key()) == CONTENT


def test_a_draft_that_is_not_committed_leaves_nothing(store: EngineStore) -> None:
    """Neither when its build fails, nor when that was killed: the next one clears up."""
    with store.draft() as draft:
        (draft / PLAN).write_bytes(CONTENT)
    assert list(store.folder.iterdir()) == []
    left = store.folder / "12345678.part"
    left.mkdir()
    with store.draft():
        assert not left.exists()


@pytest.mark.parametrize("at_work", [True, False])
def test_the_draft_of_a_build_that_was_killed_goes_with_the_rest(store: EngineStore, at_work: bool) -> None:
    """That of a build at work, who holds the lock, stays."""
    with store.draft() as draft, (store.folder / LOCK).open("w") as lock:
        if at_work:
            fcntl.flock(lock, fcntl.LOCK_EX)
        store.collect(ORIN)
        assert draft.exists() == at_work


def test_timings_are_kept_for_their_target_alone(store: EngineStore) -> None:
    """Those of another TensorRT or GPU are another file; `collect` removes them."""
    with store.draft() as draft:
        (draft / TIMING).write_bytes(b"timings")
        store.keep_timing_cache(ORIN, draft / TIMING)
    assert store.timing_cache(ORIN).read_bytes() == b"timings"
    other = Target("11.0.0", "8.7", "36.4.3")
    assert not store.timing_cache(other).exists()
    store.collect(other)
    assert not store.timing_cache(ORIN).exists()


def test_engines_for_another_target_go_first_then_those_used_longest_ago(store: EngineStore) -> None:
    """Down to the quota, and no further."""
    for number in range(4):
        place = put(store, key(number))
        os.utime(place, (number, number))
    put(store, key(9, Target("8.6", "8.7", "36.3")))
    size_bytes = store.entries()[0].size_bytes
    assert {entry.folder.name for entry in store.collect(ORIN)} == {
        key(9, Target("8.6", "8.7", "36.3")).digest
    }
    gone = store.collect(ORIN, most_bytes=2 * size_bytes + 10)
    assert [entry.folder.name for entry in gone] == [key(0).digest, key(1).digest]
    assert [entry.folder.name for entry in store.entries()] == [key(3).digest, key(2).digest]


def test_an_engine_in_use_by_another_process_stays(store: EngineStore) -> None:
    """Whatever the quota; when that process has ended it can go."""
    put(store, key())
    script = (
        "import sys, pathlib; from agent.enginestore.store import EngineStore;"
        " from tests.unit.enginestore.test_store import key;"
        f" store = EngineStore(pathlib.Path({str(store.folder)!r})); assert store.read(key());"
        " print('read', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == b"read\n"
        assert store.collect(ORIN, most_bytes=0) == []
        user.communicate(timeout=60)
    assert len(store.collect(ORIN, most_bytes=0)) == 1


def test_a_failure_is_remembered_until_it_is_forgotten(store: EngineStore) -> None:
    """By another store too, as after a restart; a damaged note is none."""
    store.remember(key(), "trial", "int8.onnx", "no such operator", lasting=True)
    again = EngineStore(store.folder)
    assert again.failure(key(), "another trial") is None
    failure = again.failure(key(), "trial")
    assert failure is not None
    assert failure.why == "no such operator"
    again.forget(key())
    assert store.failure(key(), "trial") is None
    again.forget(key())
    (store.folder / f"{key().digest}.failed.json").write_text("{")
    assert store.failure(key(), "trial") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_engines_that_belong_to_somebody_else(store: EngineStore) -> None:
    """What can't be read is not there; what can't be removed is not told as removed."""
    place = put(store, key())
    store.timing_cache(ORIN).write_bytes(b"timings")
    for folder in store.folder.parents:
        if folder.stat().st_uid == os.getuid() and folder.stat().st_mode & 0o777 == 0o700:
            folder.chmod(0o711)
    os.setresuid(65534, 65534, 0)
    try:
        assert store.has(key())
        with pytest.raises(NotPermitted, match="can't remove"):
            store.collect(ORIN, most_bytes=0)
        assert store.collect(None) == []
    finally:
        os.setresuid(0, 0, 0)
    assert store.read(key()) == CONTENT
    for closed in (place, store.folder):
        closed.chmod(0o700)
        os.setresuid(65534, 65534, 0)
        try:
            assert not store.has(key())
            assert store.read(key()) is None
            assert store.failure(key(), "trial") is None
        finally:
            os.setresuid(0, 0, 0)


@given(st.floats(0, 4e9), st.floats(-1e9, 1e9), st.booleans())
def test_only_a_want_is_worth_another_try(when_s: float, later_s: float, lasting: bool) -> None:
    """A day later, or when the clock has jumped; what TensorRT refuses never."""
    failure = Failure(key(), "trial", "int8.onnx", "memory", when_s, lasting)
    apart_s = abs((when_s + later_s) - when_s)
    assert due(failure, when_s + later_s) == (not lasting and apart_s >= RETRY_S)


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_a_build_leaves_memory_to_the_others(total_bytes: int, free_bytes: int) -> None:
    """What is left at its largest is what the bounds ask for; one that stays within them may go on."""
    free_bytes = min(free_bytes, total_bytes)
    bounds = bounds_for(total_bytes, free_bytes)
    assert bounds.most_rss_bytes + bounds.least_free_bytes >= free_bytes
    assert bounds.objection(bounds.most_rss_bytes, bounds.least_free_bytes) is None
    assert "it took" in (bounds.objection(bounds.most_rss_bytes + 1, free_bytes) or "")
    assert "are left" in (bounds.objection(0, bounds.least_free_bytes - 1) or "")
    assert 64 << 20 <= workspace_for(free_bytes) <= 1 << 30


def test_the_limit_of_the_service_counts(tmp_path: Path) -> None:
    """The lower of its two; cached files do not; without a limit there is none."""
    assert headroom(tmp_path) is None
    (tmp_path / "memory.current").write_text("1000000\n")
    (tmp_path / "memory.high").write_text("max\n")
    assert headroom(tmp_path) is None
    (tmp_path / "memory.max").write_text("5000000\n")
    assert headroom(tmp_path) == 4000000
    (tmp_path / "memory.high").write_text("1500000\n")
    (tmp_path / "memory.stat").write_text("anon 900000\ninactive_file 100000\n")
    assert headroom(tmp_path) == 600000
    (tmp_path / "memory.current").write_text("9000000\n")
    assert headroom(tmp_path) == 0
