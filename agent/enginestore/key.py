"""What an engine is tied to, and what is told of it: an engine runs only where all of its key is the same."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from agent import __version__

if TYPE_CHECKING:
    from agent.bundle import Manifest


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What engines are built for: TensorRT's version, the GPU's SM such as "8.7", the L4T release ("" on a PC)."""

    tensorrt: str
    sm: str
    l4t: str

    @property
    def digest(self) -> str:
        """A name for files that belong to it."""
        return _digest(self)


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that an engine depends on. `batch` is the most pictures that it takes at once."""

    onnx_sha256: str
    target: Target
    batch: int = 1
    flags: tuple[str, ...] = ("strongly typed",)

    @property
    def digest(self) -> str:
        """The name of its directory."""
        return _digest(self)


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is written beside an engine. `made` is UTC, RFC 3339; `model` the bundle's name and version.

    `outputs` are their names in the ONNX file's order.
    """

    key: Key
    model: str
    artifact: str
    precision: str
    outputs: tuple[str, ...]
    made: str
    took_s: float
    plan_bytes: int
    plan_sha256: str


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A build that failed, or its engine at work: why, in one line, and when (seconds since 1970).

    `trial` is that of `trial_of`. `lasting`: the same will happen again; otherwise (memory, the GPU) it is worth
    another try later.
    """

    key: Key
    trial: str
    artifact: str
    why: str
    when_s: float
    lasting: bool


def trial_of(manifest: Manifest) -> str:
    """Name what decides besides the key whether a build goes well: the manifest, for the self-test, and the agent."""
    return hashlib.sha256(__version__.encode() + msgspec.json.encode(manifest)).hexdigest()[:20]


RETRY_S = 24 * 3600.0
"""So long a build that failed for want of something is left alone."""


def due(failure: Failure, now_s: float) -> bool:
    """Tell whether the build is worth another try at `now_s`, seconds since 1970; a clock that jumped says yes."""
    return not failure.lasting and abs(now_s - failure.when_s) >= RETRY_S


def _digest(what: msgspec.Struct) -> str:
    return hashlib.sha256(msgspec.json.encode(what)).hexdigest()[:20]
