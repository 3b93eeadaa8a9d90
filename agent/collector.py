"""The reference collector, without I/O: what a subscriber makes of the messages, and what it is still missing.

It does what the wire format asks of every subscriber: de-duplicates by id, checks the numbers of each
(device, epoch, lane) for holes, takes reported gaps into account, proves tails complete with the next birth's
`previous` and `earlier`, and takes an `end` for final.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import msgspec

from agent import wire
from agent.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENDED_KEPT = 65_536
_LANES: tuple[wire.Lane, ...] = ("P0", "P1")

Kind = Literal["event", "duplicate", "gap", "online", "offline", "unreadable"]


@dataclass(frozen=True, slots=True)
class Taken:
    """What one message was. `late`: an event's news after its `end`; `device` is the topic's."""

    kind: Kind
    device: str
    event: wire.EventMessage | None = None
    gap: wire.Gap | None = None
    status: wire.Status | None = None
    late: bool = False


@dataclass(frozen=True, slots=True)
class Missing:
    """Numbers that neither came nor were reported: `count` of those from `first` to `last`.

    `tail`: the next birth proves that they were given out; they may still be on their way.
    """

    device: str
    epoch: str
    lane: str
    first: int
    last: int
    count: int
    tail: bool


@dataclass(slots=True)
class Totals:
    """How many messages were what. `reported` is how many messages gaps speak of."""

    events: int = 0
    duplicates: int = 0
    late: int = 0
    out_of_order: int = 0
    gaps: int = 0
    reported: int = 0
    unreadable: int = 0


@dataclass(slots=True)
class _Sequence:
    """The numbers of one lane of one epoch. `begin` is the first that must come; None: unknown, the lowest seen."""

    begin: int | None
    received: Ranges = field(default_factory=Ranges)
    highest: int = 0
    last: int = 0
    gaps: set[tuple[int, int, int, str]] = field(default_factory=set)


class Collector:
    """Takes messages as they come, in any order and any number of times.

    An epoch whose beginning was not witnessed is checked from the lowest number seen. Memory: a few ranges for each
    (device, epoch, lane), and the last ended events.
    """

    def __init__(self) -> None:
        self.totals = Totals()
        self._sequences: dict[tuple[str, str, str], _Sequence] = {}
        self._epochs: set[tuple[str, str]] = set()
        self._devices: set[str] = set()
        self._ended: OrderedDict[str, None] = OrderedDict()

    def take(self, topic: str, payload: bytes, *, retained: bool = False) -> Taken:
        """Take the message on `topic` (.../<device>/events/<camera>, .../gap or .../status); say what it was.

        `retained`: it was there before this subscriber was.
        """
        above, last = (["", "", *topic.split("/")])[-3:-1], topic.rpartition("/")[2]
        device = above[0] if above[1] == "events" else above[1]
        try:
            if above[1] == "events":
                return self._event(device, msgspec.json.decode(payload, type=wire.EventMessage))
            if last == "gap":
                return self._gap(device, msgspec.json.decode(payload, type=wire.Gap))
            if last == "status":
                return self._status(device, msgspec.json.decode(payload, type=wire.Status), retained=retained)
        except (msgspec.MsgspecError, ValueError):
            pass
        self.totals.unreadable += 1
        return Taken("unreadable", device)

    def missing(self) -> list[Missing]:
        """Return what should have come and neither did nor was reported: by device, epoch and lane."""
        return [
            gone
            for (device, epoch, lane), sequence in sorted(self._sequences.items())
            for gone in _missing(device, epoch, lane, sequence)
        ]

    def _event(self, device: str, event: wire.EventMessage) -> Taken:
        sender, epoch, lane, seq = event.id.split("/")
        sequence, number = self._sequence(sender, epoch, lane), int(seq)
        if number in sequence.received:
            self.totals.duplicates += 1
            return Taken("duplicate", device, event)
        sequence.received.add(number, number)
        self.totals.out_of_order += number < sequence.highest
        sequence.highest = max(sequence.highest, number)
        late = event.event_id in self._ended
        self.totals.events += 1
        self.totals.late += late
        if event.type == "end":
            self._remember_end(event.event_id)
        return Taken("event", device, event, late=late)

    def _remember_end(self, event_id: str) -> None:
        self._ended[event_id] = None
        self._ended.move_to_end(event_id)
        if len(self._ended) > _ENDED_KEPT:
            self._ended.popitem(last=False)

    def _gap(self, device: str, gap: wire.Gap) -> Taken:
        sequence = self._sequence(device, gap.epoch, gap.lane)
        told = (gap.from_seq, gap.to_seq, gap.count, gap.reason)
        if told in sequence.gaps:
            self.totals.duplicates += 1
            return Taken("duplicate", device, gap=gap)
        sequence.gaps.add(told)
        self.totals.gaps += 1
        self.totals.reported += gap.count
        return Taken("gap", device, gap=gap)

    def _status(self, device: str, status: wire.Status, *, retained: bool) -> Taken:
        """Learn what a birth tells of its own epoch and of those before.

        An epoch that was not heard of before begins with it, unless it was there before we were.
        """
        kind: Kind = "online" if status.state == "online" else "offline"
        witnessed = kind == "online" and (not retained or device in self._devices)
        for before in (*status.earlier, *filter(None, [status.previous])):
            if witnessed:
                self._end_epoch(device, before)
            self._epochs.add((device, before.epoch))
        if witnessed and (device, status.epoch) not in self._epochs:
            for lane in _LANES:
                self._sequence(device, status.epoch, lane, begin=1)
        self._epochs.add((device, status.epoch))
        self._devices.add(device)
        return Taken(kind, device, status=status)

    def _end_epoch(self, device: str, ended: wire.Previous) -> None:
        witnessed = device in self._devices and (device, ended.epoch) not in self._epochs
        for lane in _LANES:
            last = ended.last_seq.get(lane, 0)
            sequence = self._sequence(device, ended.epoch, lane, begin=1 if witnessed else None)
            sequence.last = max(sequence.last, last)

    def _sequence(self, device: str, epoch: str, lane: str, *, begin: int | None = None) -> _Sequence:
        self._epochs.add((device, epoch))
        return self._sequences.setdefault((device, epoch, lane), _Sequence(begin))


def _missing(device: str, epoch: str, lane: str, sequence: _Sequence) -> Iterator[Missing]:
    """Yield the holes that the gaps don't explain: each range of overlapping gaps explains as many as it counts."""
    begin = sequence.begin
    if begin is None:
        begin = next((first for first, _ in sequence.received), sequence.last + 1)
    reported = _merged(sequence.gaps)
    for first, last, tail in _holes(sequence, begin):
        for low, high, count in _unexplained(first, last, reported):
            yield Missing(device, epoch, lane, low, high, count, tail)


def _holes(sequence: _Sequence, begin: int) -> Iterator[tuple[int, int, bool]]:
    """Yield the ranges that did not come, and whether they lie behind all that did."""
    for first, last in sequence.received.holes(begin, sequence.highest):
        yield first, last, False
    first = max(begin, sequence.highest + 1)
    if first <= sequence.last:
        yield first, sequence.last, True


def _merged(gaps: set[tuple[int, int, int, str]]) -> list[list[int]]:
    """Return [first, last, count] of each group of gaps that overlap."""
    merged: list[list[int]] = []
    for first, last, count, _ in sorted(gaps):
        if merged and first <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], last)
            merged[-1][2] += count
        else:
            merged.append([first, last, count])
    return merged


def _unexplained(first: int, last: int, reported: list[list[int]]) -> Iterator[tuple[int, int, int]]:
    """Yield what is left of the hole from `first` to `last`; takes what it uses from the counts of `reported`."""
    for gap in reported:
        low, high = max(first, gap[0]), min(last, gap[1])
        if low > high:
            continue
        if first < low:
            yield first, low - 1, low - first
        explained = min(gap[2], high - low + 1)
        gap[2] -= explained
        if left := high - low + 1 - explained:
            yield low, high, left
        first = high + 1
    if first <= last:
        yield first, last, last - first + 1
