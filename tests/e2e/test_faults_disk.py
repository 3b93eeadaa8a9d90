"""Disks that fill up, turn read-only or fail while events go on: every event arrives or is reported as a gap."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults import disk

_GROWN_KIB = 96 << 10  # of the messages that wait in memory, and a page cache of SQLite's


def run(name: str, folder: Path) -> disk.DiskResult:
    if os.geteuid():
        pytest.skip("needs root")
    try:
        result = disk.SCENARIOS[name](folder)
    except disk.CannotInject as cannot:
        pytest.skip(str(cannot))
    assert result.verdict.sound, result
    assert result.drained
    assert result.grown_kib < _GROWN_KIB
    return result


def test_a_disk_that_others_fill(tmp_path: Path) -> None:
    """While it is full and the broker away messages are given up in the end, and all of them are in gaps."""
    result = run("full", tmp_path)
    assert result.refused
    assert result.verdict.received + result.verdict.lost_by_gap >= result.put


def test_more_events_than_the_outbox_may_hold(tmp_path: Path) -> None:
    """The oldest updates are given up, all of them in gaps that outlive a kill -9; the file keeps to its cap."""
    assert run("over_the_cap", tmp_path).verdict.lost_by_gap > 1000


@pytest.mark.parametrize(
    "name",
    [
        "eio_fsync",
        "enospc_write",
        pytest.param("eio_write", marks=pytest.mark.long),
        pytest.param("erofs_write", marks=pytest.mark.long),
    ],
)
def test_a_disk_that_fails_for_seconds(name: str, tmp_path: Path) -> None:
    """Messages wait in memory and all arrive."""
    result = run(name, tmp_path)
    assert result.refused
    assert result.verdict.received >= result.put


def test_a_disk_that_turns_read_only(tmp_path: Path) -> None:
    """What was committed before is delivered after the repair."""
    assert run("read_only", tmp_path).refused


def test_a_disk_that_is_read_only_at_the_start(tmp_path: Path) -> None:
    """The agent runs from memory, says so once, and events arrive."""
    result = run("read_only_start", tmp_path)
    assert result.verdict.received >= result.put
    assert len([line for line in result.log if "read-only" in line.lower()]) == 1
