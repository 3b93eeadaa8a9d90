"""What the agent and the process that tries a model say to each other, in JSON."""

from __future__ import annotations

import msgspec

from agent.toldfault import ToldFault  # noqa: TC001 - msgspec reads the annotations


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Try the bundle with so many `threads`, beside those of the bundles `against` that work.

    It may take `max_ms` (None: by `against`), `cpu_s` of processor time and `data_bytes` of memory.
    """

    bundle: str
    against: tuple[str, ...]
    threads: int
    max_ms: float | None
    cpu_s: int
    data_bytes: int
    parent: int


class Figures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model ran that is not broken: where, how long an inference took, in what more of memory."""

    backend: str
    delegated_nodes: int
    nodes: int
    p50_ms: float
    p95_ms: float
    limit_ms: float
    rss_bytes: int


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of what is told: the memory before the model was loaded; at the end the figures, or the fault."""

    base_bytes: int | None = None
    figures: Figures | None = None
    fault: ToldFault | None = None
