"""The accounts of the outbox: who got which number, what became of it, and which gaps must be reported."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import msgspec

from agent import wire
from agent.journal import Journal, Stored, make_key, split_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


class Lane(IntEnum):
    """What is sent first, and what is given up last. Each lane counts its messages for itself, from 1."""

    GAP = 0  # reports of what will not come; made by the outbox itself
    P0 = 1  # begin and end of an event
    P1 = 2  # updates
    P2 = 3  # statistics: never on disk, sent without an answer


DURABLE = (Lane.GAP, Lane.P0, Lane.P1)
COUNTED = (Lane.P0, Lane.P1, Lane.P2)


@dataclass(frozen=True, slots=True)
class MessageId:
    """The identity of a message, the same in every copy of it: device/epoch/lane/seq."""

    device: str
    epoch: str
    lane: Lane
    seq: int

    def __str__(self) -> str:
        return f"{self.device}/{self.epoch}/{self.lane.name}/{self.seq}"


@dataclass(slots=True)
class Counts:
    """What became of this run's messages of one lane: allocated = confirmed + queued + evicted + corrupt."""

    allocated: int = 0
    confirmed: int = 0
    queued: int = 0
    evicted: int = 0
    corrupt: int = 0


@dataclass(slots=True)
class _Loss:
    """A gap that is still growing: its row is replaced as long as it has not been handed out."""

    key: int
    epoch: int
    lane: Lane
    reason: str
    from_seq: int
    to_seq: int
    count: int = 0
    committed: int = 0

    @property
    def growing(self) -> bool:
        """More was lost than the report on disk tells."""
        return self.count != self.committed


class Ledger:
    """Numbers and accounts of this run, and the gaps of all runs that are still in the file. No lock, no disk.

    Keys are the journal's; gaps coalesce by epoch, lane and reason until their report is handed out.
    """

    def __init__(self, device: str, journal: Journal, gap_topic: str) -> None:
        self.device, self._journal, self._gap_topic = device, journal, gap_topic
        self._seq = dict.fromkeys(Lane, 0)
        self._counts = {lane: Counts() for lane in Lane}
        self._losses: dict[tuple[int, Lane, str], _Loss] = {}

    def next_id(self, lane: Lane) -> MessageId:
        """Return the id that the next message of `lane` gets; it is taken by `allocate`."""
        epoch = self._journal.epochs[self._journal.epoch]
        return MessageId(self.device, epoch, lane, self._seq[lane] + 1)

    def allocate(self, lane: Lane) -> int:
        """Take the next number of `lane`; return the key."""
        self._seq[lane] += 1
        self._counts[lane].allocated += 1
        self._counts[lane].queued += 1
        return make_key(lane, self._journal.epoch, self._seq[lane])

    def confirm(self, key: int) -> None:
        """Account for a message that arrived."""
        self._account(key, "confirmed")

    def lose(self, key: int, reason: str) -> None:
        """Account for a message that will not come, and grow its gap (unless it is the report of one)."""
        self._account(key, "corrupt" if reason == "corrupt" else "evicted")
        lane_number, epoch, seq = split_key(key)
        lane = Lane(lane_number)
        if lane is Lane.GAP:
            return
        loss = self._losses.get((epoch, lane, reason))
        if loss is None:
            self._seq[Lane.GAP] += 1
            gap_key = make_key(Lane.GAP, self._journal.epoch, self._seq[Lane.GAP])
            loss = self._losses[epoch, lane, reason] = _Loss(gap_key, epoch, lane, reason, seq, seq)
        loss.from_seq, loss.to_seq = min(loss.from_seq, seq), max(loss.to_seq, seq)
        loss.count += 1

    def last(self, lane: Lane) -> int:
        """Return the last number of `lane`; 0 before the first."""
        return self._seq[lane]

    def last_seq(self) -> dict[int, int]:
        """Return the last number of each lane on disk that has any."""
        return {int(lane): self._seq[lane] for lane in DURABLE if self._seq[lane]}

    def counts(self) -> dict[Lane, Counts]:
        """Return the accounts of this run, by lane."""
        return {lane: replace(self._counts[lane]) for lane in COUNTED}

    def grown(self) -> list[tuple[Stored, int]]:
        """Return the reports that must be written, anew or again, each with the count it tells."""
        return [(self._report(loss), loss.count) for loss in self._losses.values() if loss.growing]

    def written(self, reports: Iterable[tuple[Stored, int]]) -> None:
        """Note that these reports are on disk."""
        told = {row.key: count for row, count in reports}
        for loss in self._losses.values():
            loss.committed = told.get(loss.key, loss.committed)

    def growing(self) -> set[int]:
        """Return the keys of reports that are older on disk than what they should tell."""
        return {loss.key for loss in self._losses.values() if loss.growing}

    def close_gaps(self, handed: Collection[int]) -> None:
        """Let no report grow that was handed out; the next loss begins a new gap."""
        self._losses = {at: loss for at, loss in self._losses.items() if loss.key not in handed}

    def name(self, key: int) -> str:
        """Return the id of `key` as people read it."""
        lane, epoch, seq = split_key(key)
        return f"{self.device}/{self._journal.epochs.get(epoch, '?')}/{Lane(lane).name}/{seq}"

    def _account(self, key: int, what: str) -> None:
        lane, epoch, _ = split_key(key)
        if epoch == self._journal.epoch:
            counts = self._counts[Lane(lane)]
            counts.queued -= 1
            setattr(counts, what, getattr(counts, what) + 1)

    def _report(self, loss: _Loss) -> Stored:
        epoch = self._journal.epochs.get(loss.epoch, "unknown")
        lane: wire.Lane = loss.lane.name  # type: ignore[assignment]
        gap = wire.Gap(wire.SCHEMA_VERSION, epoch, lane, loss.from_seq, loss.to_seq, loss.count, loss.reason)
        return Stored(loss.key, self._gap_topic, retain=False, payload=msgspec.json.encode(gap))
