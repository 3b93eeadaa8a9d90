"""What the agent and the process that builds an engine say to each other, in JSON."""

from __future__ import annotations

import msgspec

from agent import errors


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to build: the ONNX `artifact`, with `sha256`, of `bundle`; it goes into `draft`. `parent` asks."""

    bundle: str
    artifact: str
    sha256: str
    draft: str
    timing_cache: str
    workspace_bytes: int
    parent: int


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the answer: how far it is, in words; or how it failed: an AgentError's class and parts.

    The last of one that went well has the names of the engine's `outputs`, in the ONNX file's order.
    """

    progress: str = ""
    outputs: tuple[str, ...] = ()
    fault: str = ""
    what: str = ""
    seen: str | None = None
    fix: str = ""

    @classmethod
    def of(cls, error: errors.AgentError) -> Said:
        """Return the line that tells of `error`."""
        seen = None if error.seen is None else str(error.seen)
        return cls(fault=type(error).__name__, what=error.what, seen=seen, fix=error.fix)

    def error(self) -> errors.AgentError:
        """Return the error that it tells of."""
        raised: errors.AgentError = getattr(errors, self.fault)(self.what, seen=self.seen, fix=self.fix)
        return raised
