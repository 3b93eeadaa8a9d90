"""Checks run together: as they come, bounded, and a broken one harms no other."""

from __future__ import annotations

import threading

from agent.check.finding import ok
from agent.check.runner import Check, run_together
from agent.errors import BadData
from tests.patience import HANGS_S


def test_rows_come_as_soon_as_they_are_known() -> None:
    """The second check is done before the first may end: its row comes first."""
    go = threading.Event()
    slow = Check("slow", lambda: [ok("slow", str(go.wait(HANGS_S)))], HANGS_S)
    fast = Check("fast", lambda: [ok("fast", "")], HANGS_S)
    rows = run_together([slow, fast])
    assert next(rows).what == "fast"
    go.set()
    assert next(rows) == ok("slow", "True")
    assert list(rows) == []


def test_one_that_hangs_is_given_up() -> None:
    """After its own limit it is a fault with what to do; those with more time are waited for."""
    never, go = threading.Event(), threading.Event()
    rows = run_together(
        [
            Check("hangs", lambda: [ok("hangs", str(never.wait(HANGS_S)))], 0.1, "pull the plug"),
            Check("late", lambda: [ok("late", str(go.wait(HANGS_S)))], HANGS_S),
        ]
    )
    first = next(rows)
    assert (first.what, first.state, first.fix) == ("hangs", "fault", "pull the plug")
    go.set()
    assert [row.what for row in rows] == ["late"]
    never.set()


def test_one_that_comes_back_after_all_is_not_told_twice() -> None:
    """A check that was given up and then ends is ignored."""
    given_up, over = threading.Event(), threading.Event()

    def late() -> list:
        given_up.wait(HANGS_S)
        over.set()
        return [ok("late", "")]

    rows = run_together(
        [Check("late", late, 0.05), Check("other", lambda: over.wait(HANGS_S) and [], HANGS_S)]
    )
    assert next(rows).state == "fault"
    given_up.set()
    assert list(rows) == []


def test_what_a_check_raises_is_its_row() -> None:
    """An AgentError with its fix; a bug is told as one, and the others go on."""

    def broken() -> list:
        raise ZeroDivisionError("a bug")

    def refused() -> list:
        raise BadData("weights", seen="odd", fix="copy them")

    rows = {
        row.what: row
        for row in run_together(
            [
                Check("broken", broken, HANGS_S),
                Check("refused", refused, HANGS_S),
                Check("fine", lambda: [ok("fine", "")], HANGS_S),
            ]
        )
    }
    assert rows["broken"].seen == "internal error: ZeroDivisionError: a bug"
    assert (rows["refused"].seen, rows["refused"].fix) == ("weights: odd", "copy them")
    assert rows["fine"].state == "ok"


def test_no_checks_are_no_rows() -> None:
    """Nothing to do is done at once."""
    assert list(run_together([])) == []
