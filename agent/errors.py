"""What can go wrong for a user: each has its exit code (sysexits.h) and one line: what, value seen, fix."""

from __future__ import annotations

from typing import ClassVar


class AgentError(Exception):
    """A fault a user can do something about.

    `what` says what happened, `seen` the value that was met (credentials already redacted), `fix` what to do.
    `str()` of it is the one line that is shown.
    """

    exit_code: ClassVar[int] = 70

    def __init__(self, what: str, *, seen: object = None, fix: str = "") -> None:
        self.what, self.seen, self.fix = what, seen, fix
        line = what if seen is None else f"{what}: {seen}"
        super().__init__(" ".join(f"{line}; {fix}".split()) if fix else " ".join(line.split()))


def first_line(message: object) -> str:
    """Return the first line of what another library says, 160 characters at most; "" where it says nothing."""
    text = str(message).strip()
    return text.splitlines()[0][:160] if text else ""


class UsageError(AgentError):
    """The command line is wrong."""

    exit_code = 2


class BadData(AgentError):
    """A model, bundle, clip or stream that is not what it should be."""

    exit_code = 65


class InputMissing(AgentError):
    """A file that is not there."""

    exit_code = 66


class ServiceAway(AgentError):
    """A camera, server or broker that does not answer, or refuses."""

    exit_code = 69


class CannotCreate(AgentError):
    """A state directory or sink that can't be written."""

    exit_code = 73


class IOFault(AgentError):
    """A disk that fails while in use."""

    exit_code = 74


class TryAgain(AgentError):
    """Not done yet, nothing lost: the rows are kept for the next start."""

    exit_code = 75


class NotPermitted(AgentError):
    """A login, key or permission that was refused."""

    exit_code = 77


class BadConfig(AgentError):
    """A setting that makes no sense."""

    exit_code = 78
