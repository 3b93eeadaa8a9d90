"""The outbox on a disk that is full, read-only or broken: nothing is dropped silently, and it comes back."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import TryAgain
from agent.outbox.audit import audit
from agent.outbox.ballast import BALLAST_BYTES, Ballast
from agent.outbox.ledger import Lane
from agent.outbox.memoryfile import make_private, memory_file
from agent.outbox.outbox import Outbox
from tests.e2e.brokers import wait_for
from tests.e2e.test_outbox_damage import drain
from tests.patience import HANGS_S

_MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a file system of 24 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = os.geteuid() == 0 and mount("-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place))
    if not mounted:
        pytest.skip("mounting a small file system takes root and CAP_SYS_ADMIN")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def mount(*arguments: str) -> bool:
    """Do what the command of that name does; return whether it worked."""
    with contextlib.suppress(OSError):
        return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode == 0
    return False


def opened(folder: Path, **more: Any) -> Outbox:
    """Return an outbox in `folder`."""
    return Outbox(folder / "outbox.db", device="dev", gap_topic="gap", **more)


def put(outbox: Outbox, lane: Lane, count: int) -> list[str]:
    """Put messages of 2,000 bytes; return their ids."""
    return [str(outbox.put(lane, "t", lambda i: str(i).encode().ljust(2000))) for _ in range(count)]


def fill_up(disk: Path) -> Path:
    """Take all the room there is."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def accounted(outbox: Outbox, sent: list[str], rows: list[str], gaps: list[dict[str, Any]]) -> bool:
    """Return whether each of `sent` came or is told by the gaps."""
    return len(sent) - len(rows) == sum(gap["count"] for gap in gaps) and set(rows) <= set(sent)


def test_the_ballast_is_made_given_up_and_made_again(disk: Path) -> None:
    """It is there when there is room; where there is little, it is not."""
    ballast = Ballast(disk / "outbox.db")
    ballast.restore(0.0)
    file = disk / "outbox.db.ballast"
    assert file.stat().st_blocks * 512 == file.stat().st_size == BALLAST_BYTES
    assert ballast.release()
    assert not ballast.release()
    filler = fill_up(disk)
    ballast.restore(1000.0)
    assert not file.exists()
    filler.unlink()
    ballast.restore(1001.0)
    assert not file.exists(), "asked too soon"
    ballast.restore(2000.0)
    assert file.exists()


def test_a_disk_that_others_fill(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages are still taken, sent, deleted and, when memory is short too, given up with a gap."""
    monkeypatch.setattr("agent.outbox.committer._RETRY_S", 0.02)
    with opened(disk, max_waiting=400) as outbox:
        sent = put(outbox, Lane.P1, 900)
        assert outbox.flush(HANGS_S)
        wait_for((disk / "outbox.db.ballast").exists, HANGS_S, "the ballast")
        filler = fill_up(disk)
        for _ in range(8):
            sent += put(outbox, Lane.P1, 290)
            sent += put(outbox, Lane.P0, 10)
            outbox.flush(0.2)
        assert not (disk / "outbox.db.ballast").exists()
        counts = outbox.counts()
        assert counts[Lane.P1].evicted > 0
        assert counts[Lane.P0].evicted == 0
        before = len(sent) - counts[Lane.P1].evicted
        rows = []
        for _ in range(4):
            taken = outbox.take(100)
            rows += [m.payload.decode().strip() for m in taken if m.topic != "gap"]
            outbox.release([int(m.key) for m in taken])
        assert rows, "what is queued is still sent"
        filler.unlink()
        assert outbox.flush(HANGS_S)
        rows, gaps = drain(outbox)
        assert accounted(outbox, sent, rows, gaps)
        assert len(rows) >= before - 400
        assert {gap["reason"] for gap in gaps} <= {"disk_full", "disk_refuses"}
        assert outbox.state.failing == ""
        assert audit(disk / "outbox.db").holds


def test_a_full_disk_at_start_uses_the_ballast_of_the_run_before(disk: Path) -> None:
    """What waited is there, and can be deleted."""
    with opened(disk) as outbox:
        sent = put(outbox, Lane.P0, 20)
        assert outbox.flush(HANGS_S)
        wait_for((disk / "outbox.db.ballast").exists, HANGS_S, "the ballast")
    fill_up(disk)
    with opened(disk) as outbox:
        assert outbox.state.durable
        assert drain(outbox) == (sent, [])


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_no_file_possible_at_start(
    disk: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A small outbox in memory, told by one error; a second agent is still refused."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    if how == "full":
        fill_up(disk)
    else:
        assert mount("-o", "remount,ro", str(disk))
    with opened(disk) as outbox:
        sent = put(outbox, Lane.P0, 20)
        state = outbox.state
        assert (state.durable, state.max_bytes) == (False, 4 * _MIB)
        assert drain(outbox) == (sent, [])
        assert [r.levelno for r in caplog.records if r.levelno >= logging.WARNING] == [logging.ERROR]
        with pytest.raises(Exception, match="belongs to a running agent"):
            opened(disk)


def test_what_was_kept_in_memory_comes_to_the_disk_with_the_next_start(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under its own ids, before nothing and after what lay on the disk; notes too."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    with opened(disk) as outbox:
        first = put(outbox, Lane.P0, 3)
    assert mount("-o", "remount,ro", str(disk))
    with opened(disk) as outbox:
        second, epoch = put(outbox, Lane.P0, 4), outbox.epoch
        outbox.note("state/a", b"1")
        assert mount("-o", "remount,rw", str(disk))
        with pytest.raises(TryAgain):
            opened(disk)
    with opened(disk) as outbox:
        assert outbox.state.durable
        assert outbox.previous is not None
        assert (outbox.previous.epoch, outbox.previous.last_seq) == (epoch, {"P0": 4})
        assert outbox.left == {"state/a": b"1"}
        assert drain(outbox) == (first + second, [])
        assert audit(disk / "outbox.db").holds
    assert not list(tmp_path.glob("outbox-*.db"))


def test_memory_that_another_user_could_have_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory in /dev/shm that others may write is not trusted."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    folder = memory_file(tmp_path / "outbox.db").parent
    assert str(folder.parent) == "/dev/shm"  # noqa: S108 - nothing is made there but by the code under test
    make_private(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    try:
        with pytest.raises(PermissionError):
            make_private(folder)
    finally:
        folder.chmod(0o700)
