"""The verdict on a run with faults: which messages were committed, which arrived, what explains the rest. No I/O."""

from __future__ import annotations

import bisect
import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.faults.outboxfile import Account

Lane = tuple[str, str]
"""Epoch and lane: what numbers are counted in."""
SENT_LANES = ("P0", "P1")
_NAMED = 100  # of the lost


@dataclass(frozen=True)
class Verdict:
    """What became of all messages; everything from `lost` on should be 0.

    An epoch that began and was settled between two looks at the file is known from the process alone.
    `lives_broken` are events with two beginnings or two ends, `left_open` those without an end though nothing
    was given up (all processes have ended, and the last one in order). `lost_ids` names the first of the lost.
    """

    epochs: int
    committed: int
    received: int
    gaps: int
    lost_by_gap: int
    copies: int
    copies_by_broker: int
    lost: int
    told_but_absent: int
    never_committed: int
    inversions: int
    ids_reused: int
    accounts_broken: int
    lives_broken: int
    left_open: int
    lost_ids: tuple[str, ...] = ()

    @property
    def copies_share(self) -> float:
        """Copies that the agent sent beyond the first, as a share of all messages."""
        return self.copies / max(1, self.received)

    @property
    def sound(self) -> bool:
        """Whether nothing is lost, told twice, out of order or unaccounted for."""
        return not any(
            (
                self.lost,
                self.told_but_absent,
                self.never_committed,
                self.inversions,
                self.ids_reused,
                self.accounts_broken,
                self.lives_broken,
                self.left_open,
            )
        )

    def as_dict(self) -> dict[str, Any]:
        """Return all figures."""
        return {**asdict(self), "copies_share": self.copies_share, "sound": self.sound}


class Oracle:
    """Collects what the file and the process said, then judges what an independent subscriber got."""

    def __init__(self) -> None:
        self._allocated: dict[Lane, int] = {}
        self._told: dict[Lane, int] = {}
        self._accounts_broken = 0

    def file_says(self, accounts: Mapping[Lane, Account]) -> None:
        """Take what the outbox file holds at a moment when no process has it."""
        for lane, account in accounts.items():
            self._allocated[lane] = max(self._allocated.get(lane, 0), account.allocated)
            self._accounts_broken += not account.holds

    def process_says(self, line: str) -> None:
        """Take a line of the storm; one that a kill cut short says nothing."""
        try:
            said = json.loads(line)
        except json.JSONDecodeError:
            return
        if said.get("committed"):
            for name, seq in said["last"].items():
                epoch, _, lane = name.partition("/")
                self._told[epoch, lane] = max(self._told.get((epoch, lane), 0), seq)

    def no_file(self) -> None:
        """There is no file: what the process told to be committed stands for it."""
        self._allocated |= self._told

    @property
    def committed(self) -> int:
        """How many events are known to be committed so far."""
        return sum(map(self._last, self._lanes()))

    def judge(self, lines: Iterable[str]) -> Verdict:
        """Return the verdict on what the witness wrote."""
        arrived: dict[Lane, dict[int, str]] = defaultdict(dict)
        lives: dict[str, Counter[str]] = defaultdict(Counter)
        gaps: dict[Lane, list[tuple[int, int, int]]] = defaultdict(list)
        highest: Counter[Lane] = Counter()
        copies = copies_by_broker = inversions = ids_reused = 0
        for line in lines:
            kind, _, rest = line.partition(" ")
            if kind == "G":
                gap = json.loads(rest)
                gaps[gap["epoch"], gap["lane"]].append((gap["from_seq"], gap["to_seq"], gap["count"]))
            elif kind == "E":
                message_id, dup, type_, event_id = rest.split()
                _, epoch, lane_name, number = message_id.split("/")
                lane, seq = (epoch, lane_name), int(number)
                if seq in arrived[lane]:
                    copies += dup == "0"
                    copies_by_broker += dup == "1"
                    ids_reused += arrived[lane][seq] != type_ + event_id
                    continue
                arrived[lane][seq] = type_ + event_id
                inversions += seq < highest[lane]
                highest[lane] = max(highest[lane], seq)
                lives[event_id][type_] += 1
        missing = {lane: self._missing(lane, arrived[lane]) for lane in self._lanes()}
        lost = {lane: _unexplained(seqs, gaps[lane]) for lane, seqs in missing.items()}
        in_file = {epoch for epoch, _ in self._allocated}
        lost_by_gap = sum(map(len, missing.values())) - sum(map(len, lost.values()))
        return Verdict(
            epochs=len({epoch for epoch, _ in self._lanes()}),
            committed=self.committed,
            received=sum(map(len, arrived.values())),
            gaps=sum(map(len, gaps.values())),
            lost_by_gap=lost_by_gap,
            copies=copies,
            copies_by_broker=copies_by_broker,
            lost=sum(map(len, lost.values())),
            told_but_absent=sum(
                max(0, seq - self._allocated.get(lane, 0))
                for lane, seq in self._told.items()
                if lane[0] in in_file
            ),
            never_committed=sum(
                seq > self._allocated.get(lane, 0)
                for lane, seqs in arrived.items()
                if lane[0] in in_file
                for seq in seqs
            ),
            inversions=inversions,
            ids_reused=ids_reused,
            accounts_broken=self._accounts_broken,
            lives_broken=sum(types["new"] > 1 or types["end"] > 1 for types in lives.values()),
            left_open=0 if lost_by_gap else sum(types["new"] > types["end"] for types in lives.values()),
            lost_ids=tuple(f"{epoch}/{lane}/{seq}" for (epoch, lane), seqs in lost.items() for seq in seqs)[
                :_NAMED
            ],
        )

    def _lanes(self) -> set[Lane]:
        return {lane for lane in {*self._allocated, *self._told} if lane[1] in SENT_LANES}

    def _missing(self, lane: Lane, arrived: Mapping[int, str]) -> list[int]:
        return [seq for seq in range(1, self._last(lane) + 1) if seq not in arrived]

    def _last(self, lane: Lane) -> int:
        return max(self._allocated.get(lane, 0), self._told.get(lane, 0))


def _unexplained(missing: list[int], gaps: list[tuple[int, int, int]]) -> list[int]:
    """Return those of `missing`, ascending, that no gap (from, to, how many) accounts for: each gap so many."""
    left = list(missing)
    for first, last, count in sorted(gaps, key=lambda gap: gap[1]):
        begin, end = bisect.bisect_left(left, first), bisect.bisect_right(left, last)
        del left[begin : min(end, begin + count)]
    return left
