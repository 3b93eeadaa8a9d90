"""The board as rows."""

from __future__ import annotations

import pytest

from agent.check import board
from agent.hardware import Board
from agent.hardware.board import Problem

PI = Board("raspberry-pi", "Raspberry Pi 4", "supported", "measured", usable_cpus=4, os="Raspberry Pi OS 12")


def test_a_board_that_is_supported_is_good() -> None:
    """Its name, its CPUs and its system in one row."""
    (row,) = board.judge(PI)
    assert (row.state, row.seen) == ("ok", "Raspberry Pi 4, 4 CPUs to use, Raspberry Pi OS 12")


@pytest.mark.parametrize("tier", ["untested", "unsupported"])
def test_any_other_is_a_warning(tier) -> None:
    """Models may still run on it: the other rows tell."""
    (row,) = board.judge(Board("unknown", "x", tier, "not in our table"))
    assert row.state == "warning"
    assert "not in our table" in row.seen


def test_every_problem_of_a_board_is_told_with_its_fix() -> None:
    """Hidden /proc/cpuinfo, for example."""
    hidden = Problem("/proc/cpuinfo is hidden", "no ProcSubset=pid")
    rows = board.judge(Board("raspberry-pi", "Pi", "supported", "", problems=(hidden,)))
    assert [(row.state, row.fix) for row in rows] == [("ok", ""), ("warning", "no ProcSubset=pid")]
