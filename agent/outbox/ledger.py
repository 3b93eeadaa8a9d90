"""The accounts of the outbox: who got which number, what became of it, and which gaps must be reported."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import msgspec

from agent import wire
from agent.outbox.stored import Account, Batch, Books, Epoch, Place, Stored, make_key, split_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from agent.outbox.salvage import Found


class Lane(IntEnum):
    """What is sent first, and what is given up last. Each lane counts its messages for itself, from 1."""

    GAP = 0  # reports of what will not come; made by the outbox itself
    P0 = 1  # begin and end of an event
    P1 = 2  # updates
    P2 = 3  # statistics: never on disk, sent without an answer


COUNTED = (Lane.P0, Lane.P1, Lane.P2)
_NAMED = 16
"""So many epochs before this one are named by births, settled or not: as many runs may find no broker."""


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
class _Loss:
    """A gap that is still growing: its row is replaced as long as it has not been handed out."""

    key: int
    epoch: str
    lane: Lane
    reason: str
    from_seq: int
    to_seq: int
    count: int = 0
    growth: int = 0
    on_disk: int = -1

    @property
    def written(self) -> bool:
        """Whether the report on disk tells all."""
        return self.on_disk == self.growth


class Ledger:
    """Numbers and accounts of all epochs that are still in the file, and their gaps. No lock, no disk.

    Gaps coalesce by epoch, lane and reason until their report is handed out. `begin` comes before all else.
    """

    def __init__(self, device: str, gap_topic: str, books: Books) -> None:
        self.device, self._gap_topic = device, gap_topic
        self.epoch, self.first = max(books.epochs, default=0), 0
        self._before: list[int] = []
        self._epochs = dict(books.epochs)
        self._accounts = {place: replace(account) for place, account in books.accounts.items()}
        self._on_disk = {place: account.allocated for place, account in books.accounts.items()}
        self._past = {lane: Account() for lane in Lane}
        self._changed: set[Place] = set()
        self._begun: dict[int, Epoch] = {}
        self._losses: dict[tuple[str, Lane, str], _Loss] = {}
        self._reporting: list[tuple[_Loss, int]] = []

    # -- epochs --

    def begin(self, epoch: Epoch) -> None:
        """Begin a new epoch; all lanes count from 1 again."""
        told = {
            number
            for (number, lane), account in self._accounts.items()
            if lane != Lane.P2 and account.allocated
        }
        self._before = sorted(told, reverse=True)[:_NAMED]
        self.epoch = max(self._epochs, default=0) + 1
        self.first = self.first or self.epoch
        self._epochs[self.epoch] = self._begun[self.epoch] = epoch

    def name(self) -> str:
        """Return the name of the epoch that numbers are taken from."""
        return self._epochs[self.epoch].name

    def before(self) -> tuple[wire.Previous, ...]:
        """Return the epochs before that had messages, the latest first, with each lane's last number on disk."""
        return tuple(
            wire.Previous(self._epochs[number].name, self._last_on_disk(number)) for number in self._before
        )

    def _last_on_disk(self, number: int) -> dict[wire.Lane, int]:
        lanes = (Lane.GAP, Lane.P0, Lane.P1)
        return {lane.name: seq for lane in lanes if (seq := self._on_disk.get((number, lane), 0))}  # type: ignore[misc]

    def of_this_boot(self, key: int) -> bool:
        """Return whether the row was made in the boot that goes on now."""
        number = split_key(key)[1]
        boot_id = self._epochs[self.epoch].boot_id
        return number >= self.first or (boot_id != "" and self._epochs[number].boot_id == boot_id)

    # -- accounts --

    def next_id(self, lane: Lane) -> MessageId:
        """Return the id that the next message of `lane` gets; it is taken by `allocate`."""
        return MessageId(self.device, self.name(), lane, self.last(lane) + 1)

    def last(self, lane: Lane) -> int:
        """Return the last number of `lane`; 0 before the first."""
        account = self._accounts.get((self.epoch, lane))
        return 0 if account is None else account.allocated

    def allocate(self, lane: Lane) -> int:
        """Take the next number of `lane`; return the key."""
        account = self._account(self.epoch, lane)
        account.allocated += 1
        return make_key(lane, self.epoch, account.allocated)

    def confirm(self, key: int) -> None:
        """Account for a message that arrived."""
        lane, epoch, _ = split_key(key)
        self._account(epoch, lane).confirmed += 1

    def lose(self, key: int, reason: str) -> None:
        """Account for a message that will not come, and grow its gap (unless it is the report of one)."""
        lane, epoch, seq = split_key(key)
        account = self._account(epoch, lane)
        account.evicted += 1
        account.rejected += reason == "rejected"
        if lane != Lane.GAP:
            self._grow(self._epochs[epoch].name, Lane(lane), reason, seq, seq, 1)

    def queued(self, lane: Lane | None = None) -> int:
        """Return how many messages are neither confirmed nor given up; of `lane`: in this epoch."""
        if lane is None:
            return sum(account.queued for account in self._accounts.values())
        account = self._accounts.get((self.epoch, lane))
        return 0 if account is None else account.queued

    def counts(self) -> dict[Lane, Account]:
        """Return the accounts of all epochs of this run, by lane."""
        counts = {lane: replace(self._past[lane]) for lane in COUNTED}
        for (epoch, lane), account in self._accounts.items():
            if epoch >= self.first and lane in counts:
                _add(counts[Lane(lane)], account)
        return counts

    # -- gaps --

    def gap_keys(self) -> set[int]:
        """Return the keys of the reports that can still grow."""
        return {loss.key for loss in self._losses.values()}

    def growing(self) -> set[int]:
        """Return the keys of reports that are older on disk than what they should tell."""
        return {loss.key for loss in self._losses.values() if not loss.written}

    def close_gaps(self, handed: Collection[int]) -> None:
        """Let no report grow that was handed out; the next loss begins a new gap."""
        self._losses = {at: loss for at, loss in self._losses.items() if loss.key not in handed}

    # -- what goes to disk --

    def entries(self, waiting: Mapping[Place, int]) -> Batch:
        """Return what must be written so that accounts and rows agree; `waiting` rows stay unwritten.

        To be answered with `entered` when it is on disk, with `not_entered` when not.
        """
        places = {place for place in self._changed if place[1] != Lane.P2}
        self._changed = {place for place in places if waiting.get(place)}
        accounts = {place: replace(self._accounts[place]) for place in places}
        for place, account in accounts.items():
            account.allocated -= waiting.get(place, 0)
        reports = [loss for loss in self._losses.values() if not loss.written]
        self._reporting = [(loss, loss.growth) for loss in reports]
        begun, self._begun = self._begun, {}
        return Batch(
            rows=[self._report(loss) for loss in reports],
            accounts=accounts,
            epochs=begun,
            ended=self._ended(),
        )

    def entered(self, batch: Batch) -> None:
        """Note that `batch` is on disk."""
        self._on_disk |= {place: account.allocated for place, account in batch.accounts.items()}
        for loss, growth in self._reporting:
            loss.on_disk = growth
        for place in [place for place in self._accounts if place[0] in batch.ended]:
            account = self._accounts.pop(place)
            self._on_disk.pop(place, None)
            if place[0] >= self.first:
                _add(self._past[Lane(place[1])], account)
        for number in batch.ended:
            self._epochs.pop(number, None)

    def not_entered(self, batch: Batch) -> None:
        """Note that nothing of `batch` is on disk."""
        self._changed |= batch.accounts.keys()
        self._begun = {**batch.epochs, **self._begun}

    def missing(self, found: Found, waiting: Mapping[Place, int]) -> Counter[Place]:
        """Return how many rows of each place should lie in the file and are not in `found`."""
        elsewhere = Counter(waiting) + places(self.gap_keys())
        missing = {
            place: account.queued - elsewhere[place] - found.rows[place]
            for place, account in self._accounts.items()
            if place[1] != Lane.P2
        }
        return Counter({place: count for place, count in missing.items() if count})

    def settle(self, found: Found, waiting: Mapping[Place, int], epoch: Epoch) -> Batch:
        """Account for what a repair has `found`, in a new epoch; return all the books for the new file.

        What should lie in the file and is not in `found` is corrupt, and reported.
        """
        self._epochs = {**found.books.epochs, **self._epochs}
        for place, account in found.books.accounts.items():
            self._accounts.setdefault(place, replace(account))
        at_start = not self.first
        nothing_known = at_start and found.damaged and not self._accounts
        self.begin(epoch)
        for place, missing in self.missing(found, waiting).items():
            account, (number, lane) = self._accounts[place], place
            if missing < 0:  # rows that were confirmed are there again, or never went
                account.confirmed += missing
                continue
            first, last, count = found.bad.get(place, (0, 0, 0))
            if count != missing:
                first, last = 1, account.allocated
            account.corrupt += missing
            self._grow(self._epochs[number].name, Lane(lane), "corrupt", first, last, missing)
        if nothing_known:
            self._grow("unknown", Lane.P0, "corrupt", 0, 0, 0)
        for place, count in found.unknown.items() if at_start else ():
            last, (number, lane) = self._accounts.get(place, Account()).allocated, place
            self._grow(self._epochs[number].name, Lane(lane), "corrupt", min(last, 1), last, count)
        for loss in self._losses.values():
            loss.on_disk = -1
        self._changed |= self._accounts.keys()
        self._begun = dict(self._epochs)
        return self.entries(waiting)

    def _ended(self) -> set[int]:
        """Return the epochs of which nothing is left, but for this one and the one those that `before` tells."""
        alive = {epoch for (epoch, _), account in self._accounts.items() if account.queued}
        return self._epochs.keys() - alive - {self.epoch, *self._before}

    def _account(self, epoch: int, lane: int) -> Account:
        self._changed.add((epoch, lane))
        return self._accounts.setdefault((epoch, lane), Account())

    def _grow(self, epoch: str, lane: Lane, reason: str, first: int, last: int, count: int) -> None:
        loss = self._losses.get((epoch, lane, reason))
        if loss is None:
            loss = _Loss(self.allocate(Lane.GAP), epoch, lane, reason, first, last)
            self._losses[epoch, lane, reason] = loss
        loss.from_seq, loss.to_seq = min(loss.from_seq, first), max(loss.to_seq, last)
        loss.count += count
        loss.growth += 1

    def _report(self, loss: _Loss) -> Stored:
        lane: wire.Lane = loss.lane.name  # type: ignore[assignment]
        gap = wire.Gap(
            wire.SCHEMA_VERSION, loss.epoch, lane, loss.from_seq, loss.to_seq, loss.count, loss.reason
        )
        return Stored(loss.key, self._gap_topic, retain=False, payload=msgspec.json.encode(gap))


def places(keys: Iterable[int]) -> Counter[Place]:
    """Return how many of `keys` are of each place."""
    return Counter((epoch, lane) for lane, epoch, _ in map(split_key, keys))


def _add(total: Account, account: Account) -> None:
    total.allocated += account.allocated
    total.confirmed += account.confirmed
    total.evicted += account.evicted
    total.corrupt += account.corrupt
    total.rejected += account.rejected
