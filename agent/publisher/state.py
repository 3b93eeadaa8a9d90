"""How the sending stands, for health and metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PublisherState:
    """How the sending stands. `alive`: its thread runs; whether it hangs, `Publisher.beat` tells.

    `delivered` to `lost` count answers as in `Answers`; `strays` answers to nothing that was sent; `faults` faults
    of this program; `connections` those that were made; `notes_dropped` answers to commands that did not arrive;
    `unread_topics` are left alone after a flood.
    """

    alive: bool
    connected: bool
    connections: int
    protocol: str
    in_flight: int
    delivered: int
    rejected: int
    denied: int
    busy: int
    refused: int
    lost: int
    strays: int
    faults: int
    denied_topics: tuple[str, ...]
    last_error: str
    notes_dropped: int = 0
    unread_topics: tuple[str, ...] = ()
