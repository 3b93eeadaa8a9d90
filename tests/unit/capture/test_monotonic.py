"""Another clock beside CLOCK_MONOTONIC, read by a thread that may be interrupted."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.capture.monotonic import CLOSE_NS, TRIES, ahead_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

AHEAD_NS = 7_000_000_000
READING_NS = 1_000
"""What it takes to read a clock, where nobody interrupts."""


def clocks(pauses_ns: Iterable[int]) -> tuple[Callable[[], int], Callable[[], int]]:
    """Return a clock and the monotonic one; each reading takes READING_NS and the next pause; then there are none."""
    now_ns, pauses = [0], itertools.chain(pauses_ns, itertools.repeat(0))

    def read() -> int:
        now_ns[0] += READING_NS + next(pauses)
        return now_ns[0]

    return lambda: read() + AHEAD_NS, read


@pytest.mark.parametrize("pause_at", range(3))
def test_an_interruption_between_two_readings_moves_no_time(pause_at: int) -> None:
    """Wherever the thread loses the processor for 30 ms: both clocks are read again."""
    pauses = [0, 0, 0]
    pauses[pause_at] = 30_000_000
    assert ahead_ns(*clocks(pauses)) == AHEAD_NS


@given(st.lists(st.integers(0, 10**9), max_size=3 * TRIES - 3))
def test_one_quiet_moment_is_enough(pauses_ns: list[int]) -> None:
    """However often it is interrupted: of TRIES readings one without an interruption decides."""
    assert abs(ahead_ns(*clocks(pauses_ns)) - AHEAD_NS) <= CLOSE_NS / 2


def test_who_is_always_interrupted_takes_the_best() -> None:
    """It ends, and the error is at most half of the shortest interruption."""
    pauses_ns = itertools.cycle([0, 0, 50_000_000, 0, 1_000_000, 0])
    assert abs(ahead_ns(*clocks(pauses_ns)) - AHEAD_NS) <= 500_000
