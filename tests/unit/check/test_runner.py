"""Checks run together: as they come, bounded, and a broken one harms no other."""

from __future__ import annotations

import threading
import time

from agent.check.finding import ok
from agent.check.runner import Check, run_together
from agent.errors import BadData


def test_rows_come_as_soon_as_they_are_known() -> None:
    """The second check is done before the first may end: its row comes first."""
    go = threading.Event()
    slow = Check("slow", lambda: [ok("slow", str(go.wait(5)))], 10.0)
    fast = Check("fast", lambda: [ok("fast", "")], 10.0)
    rows = run_together([slow, fast])
    assert next(rows).what == "fast"
    go.set()
    assert next(rows) == ok("slow", "True")
    assert list(rows) == []


def test_one_that_hangs_is_given_up() -> None:
    """After its own limit it is a fault with what to do; those with more time are waited for."""
    never, go = threading.Event(), threading.Event()
    began_s = time.monotonic()
    rows = run_together(
        [
            Check("hangs", lambda: [ok("hangs", str(never.wait(30)))], 0.1, "pull the plug"),
            Check("late", lambda: [ok("late", str(go.wait(5)))], 20.0),
        ]
    )
    first = next(rows)
    assert (first.what, first.state, first.fix) == ("hangs", "fault", "pull the plug")
    go.set()
    assert [row.what for row in rows] == ["late"]
    assert time.monotonic() - began_s < 10
    never.set()


def test_one_that_comes_back_after_all_is_not_told_twice() -> None:
    """A check that was given up and then ends is ignored."""
    given_up, over = threading.Event(), threading.Event()

    def late() -> list:
        given_up.wait(10)
        over.set()
        return [ok("late", "")]

    rows = run_together([Check("late", late, 0.05), Check("other", lambda: over.wait(10) and [], 20.0)])
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
                Check("broken", broken, 5),
                Check("refused", refused, 5),
                Check("fine", lambda: [ok("fine", "")], 5),
            ]
        )
    }
    assert rows["broken"].seen == "internal error: ZeroDivisionError: a bug"
    assert (rows["refused"].seen, rows["refused"].fix) == ("weights: odd", "copy them")
    assert rows["fine"].state == "ok"


def test_no_checks_are_no_rows() -> None:
    """Nothing to do is done at once."""
    assert list(run_together([])) == []
