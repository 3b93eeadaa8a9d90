"""What the agent and the process that builds an engine say to each other, in JSON."""

from __future__ import annotations

import msgspec

from agent.toldfault import ToldFault  # noqa: TC001 - msgspec reads the annotations


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to build: the ONNX `artifact`, with `sha256`, of `bundle`, for `batch` pictures at once at most.

    It goes into `draft`. `parent` asks.
    """

    bundle: str
    artifact: str
    sha256: str
    batch: int
    draft: str
    timing_cache: str
    workspace_bytes: int
    parent: int


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the answer: how far it is, in words; or how it failed.

    The last of one that went well has the names of the engine's `outputs`, in the ONNX file's order.
    """

    progress: str = ""
    outputs: tuple[str, ...] = ()
    fault: ToldFault | None = None
