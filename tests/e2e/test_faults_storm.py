"""The kill storm: kill -9 of what holds the outbox, restarts of the broker, and nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.killing import StormResult, run_storm


def check(result: StormResult) -> None:
    assert result.drained
    assert result.status_holds
    assert result.verdict.sound, result.verdict
    assert result.verdict.gaps == 0
    assert result.copies_explained, result.verdict


def test_a_short_storm(tmp_path: Path) -> None:
    """2,500 events, 8 kills, 3 restarts of the broker (one by kill -9): nothing lost, told twice or out of order."""
    result = run_storm(tmp_path, events=2_500, kills=8, restarts=3, restarts_by_kill=1)
    assert (result.kills, result.restarts) == (8, 3)
    check(result)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_storm_of_50_000_events(tmp_path: Path) -> None:
    """100 kills and 30 restarts, 10 of them by kill -9, in about five minutes."""
    check(run_storm(tmp_path, events=50_000, kills=100, restarts=30, restarts_by_kill=10))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_storm_of_a_million_events(tmp_path: Path) -> None:
    """The same faults among 1,000,000 events."""
    check(run_storm(tmp_path, events=1_000_000, kills=100, restarts=30, restarts_by_kill=10))
