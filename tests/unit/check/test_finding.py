"""Rows: one line each, without credentials, counted right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.check.finding import Report, fault, fault_of, ok, skipped, warning
from agent.errors import InputMissing, ServiceAway

URL = "rtsp://user:s3cret@camera/live"  # a made-up login


@pytest.mark.parametrize("make", [lambda text: ok(text, text), lambda text: fault(text, text, fix=text)])
def test_no_row_shows_a_login(make) -> None:
    """In every part of a row a URL loses its login."""
    assert "s3cret" not in repr(make(URL))


@given(st.text())
def test_a_row_is_one_line(text: str) -> None:
    """Whatever another program said, it does not break the table."""
    row = fault("x", text, fix=text)
    assert len(row.seen.splitlines()) <= 1
    assert len(row.fix.splitlines()) <= 1


def test_an_error_becomes_a_row() -> None:
    """What happened, the value, and the fix; a value that there is none of is left out."""
    row = fault_of("camera a", ServiceAway("refused", seen="host", fix="check it"))
    assert (row.seen, row.fix, row.state) == ("refused: host", "check it", "fault")
    assert fault_of("x", InputMissing("gone")).seen == "gone"


def test_only_a_fault_makes_a_report_fail() -> None:
    """Warnings and what was skipped are shown and do not fail."""
    rows = [ok("a", ""), warning("b", "", fix="c"), skipped("d", "")]
    assert Report.of(rows).ok
    assert not Report.of([*rows, fault("e", "", fix="f")]).ok
