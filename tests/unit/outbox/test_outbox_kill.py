"""The outbox of a process that is killed, with SIGKILL, at a chosen commit."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from agent.outbox import committer
from agent.outbox.audit import audit
from agent.outbox.ledger import Lane
from agent.outbox.outbox import Note, Outbox
from tests.patience import HANGS_S

SLOW = {Lane.P0: 3600.0, Lane.P1: 3600.0, Lane.GAP: 3600.0}
EVENTS, LONGEST = 700, 900


def opened(folder: Path) -> Outbox:
    """Return the outbox in `folder`, which commits when it is asked to."""
    return Outbox(folder / "outbox.db", device="dev", gap_topic="gap", commit_s=SLOW)


def lives(seed: int) -> list[tuple[str, int]]:
    """Return "new" and "end" of events in their order: many are at work at a time, for a while each."""
    dice = random.Random(seed)
    begins = [(dice.random() * EVENTS, number) for number in range(EVENTS)]
    ends = [(at + dice.random() * LONGEST, number) for at, number in begins]
    told = [(at, "new", number) for at, number in begins] + [(at, "end", number) for at, number in ends]
    return [(kind, number) for _, kind, number in sorted(told)]


def put_and_be_killed(folder: Path, seed: int, faults: int, commits: int) -> None:
    """Queue the lives of events; the disk refuses `faults` times, takes `commits`, and then comes the end."""
    committer._RETRY_S = 0.01
    outbox = opened(folder)
    commit, left = outbox._file.journal.commit, [faults, commits]

    def fail_or_die(batch: Any) -> None:
        if left[0]:
            left[0] -= 1
            raise sqlite3.OperationalError("disk I/O error")
        commit(batch)
        left[1] -= 1
        if not left[1]:
            os.kill(os.getpid(), signal.SIGKILL)

    outbox._file.journal.commit = fail_or_die  # type: ignore[method-assign]
    for kind, number in lives(seed):
        text = f"{kind} {number}".encode()
        outbox.put(Lane.P0, "t", lambda _, text=text: text, note=Note(f"{number}", kind == "new"))  # type: ignore[misc]
    outbox.flush(HANGS_S)


@pytest.mark.parametrize(("faults", "commits"), [(0, 1), (1, 1), (1, 2), (3, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_no_event_stays_open_for_ever(tmp_path: Path, seed: int, faults: int, commits: int) -> None:
    """Of each that has begun on disk the end is there too, or the next run knows that it has to tell it.

    After a disk that refused fewer messages go at a time: an end that was to go with its beginning then waits longer.
    """
    child = multiprocessing.get_context("spawn").Process(
        target=put_and_be_killed, args=(tmp_path, seed, faults, commits)
    )
    child.start()
    child.join(HANGS_S)
    assert child.exitcode == -signal.SIGKILL
    with opened(tmp_path) as outbox:
        told = [message.payload.decode().split() for message in outbox.take(2 * EVENTS)]
        begun = {number for kind, number in told if kind == "new"}
        ended = {number for kind, number in told if kind == "end"}
        assert 0 < len(told) < 2 * EVENTS, "the kill came between two commits"
        assert begun - ended == set(outbox.left)
    assert audit(tmp_path / "outbox.db").holds
