"""The device itself: which board it is, and what about it costs speed or function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.check.finding import Finding, ok, warning
from agent.hardware import identify, read_facts

if TYPE_CHECKING:
    from agent.hardware import Board

WHAT = "board"
LIMIT_S = 5.0


def check() -> list[Finding]:
    """Return the rows of this device."""
    return judge(identify(read_facts()))


def judge(board: Board) -> list[Finding]:
    """Return the rows of `board`: what it is, then a warning for each of its problems."""
    text = ", ".join(filter(None, (board.name, f"{board.usable_cpus} CPUs to use", board.os)))
    known = ok(WHAT, text)
    if board.tier != "supported":
        fix = "`edge-agent bench` tells what it can do; `edge-agent probe` says more"
        known = warning(WHAT, f"{text}: {board.tier} ({board.tier_reason})", fix=fix)
    return [known, *(warning(WHAT, problem.what, fix=problem.fix) for problem in board.problems)]
