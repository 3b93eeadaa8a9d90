"""An AgentError as one process tells another of it, in JSON."""

from __future__ import annotations

import msgspec

from agent import errors


class ToldFault(msgspec.Struct, frozen=True, omit_defaults=True):
    """The class of an AgentError and its parts."""

    kind: str
    what: str
    seen: str | None = None
    fix: str = ""

    @classmethod
    def of(cls, error: errors.AgentError) -> ToldFault:
        """Return what tells of `error`."""
        return cls(
            type(error).__name__, error.what, None if error.seen is None else str(error.seen), error.fix
        )

    def error(self) -> errors.AgentError:
        """Return the error that it tells of; one of a kind that is not known here is an IOFault."""
        kind = getattr(errors, self.kind, errors.IOFault)
        raised: errors.AgentError = kind(self.what, seen=self.seen, fix=self.fix)
        return raised
