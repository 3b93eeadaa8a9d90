"""What a check has to say: one thing, how it stands, the value seen, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from agent.urls import redact

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.errors import AgentError

State = Literal["ok", "warning", "fault", "skipped"]
"""A warning is shown and does not fail; "skipped" is what could not or need not be looked at."""


class Finding(msgspec.Struct, frozen=True):
    """One row. `what` is the thing that was checked, `fix` is empty where there is nothing to do.

    `code` is the exit code of the error that a fault comes from, 0 for none: 78 is a setting that makes no sense,
    69 something that is away.
    Build it with the functions below: they take credentials out of `seen` and `fix`.
    """

    what: str
    state: State
    seen: str
    fix: str = ""
    code: int = 0


class Report(msgspec.Struct, frozen=True):
    """All rows of one check; `ok` when none is a fault."""

    ok: bool
    findings: tuple[Finding, ...]

    @staticmethod
    def of(findings: Iterable[Finding]) -> Report:
        """Return the report of `findings`."""
        rows = tuple(findings)
        return Report(all(row.state != "fault" for row in rows), rows)


def ok(what: str, seen: str) -> Finding:
    """Return the row of a thing that is as it should be."""
    return _finding(what, "ok", seen)


def skipped(what: str, why: str) -> Finding:
    """Return the row of a thing that was not checked."""
    return _finding(what, "skipped", why)


def warning(what: str, seen: str, *, fix: str) -> Finding:
    """Return the row of a thing that works, but not as it could."""
    return _finding(what, "warning", seen, fix)


def fault(what: str, seen: str, *, fix: str) -> Finding:
    """Return the row of a thing that does not work."""
    return _finding(what, "fault", seen, fix)


def fault_of(what: str, error: AgentError) -> Finding:
    """Return the row of a thing that ended in `error`."""
    seen = error.what if error.seen is None else f"{error.what}: {error.seen}"
    return _finding(what, "fault", seen, error.fix, error.exit_code)


def _finding(what: str, state: State, seen: str, fix: str = "", code: int = 0) -> Finding:
    """Each text is one line: what other programs say may have several."""
    return Finding(redact(what), state, " ".join(redact(seen).split()), " ".join(redact(fix).split()), code)
