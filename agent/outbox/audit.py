"""Do the books of an outbox add up with its rows? Read without touching either."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import InputMissing, IOFault
from agent.outbox.replacing import damaged_files
from agent.outbox.stored import FILE_FAULTS, SEQ_BITS, is_damage, one_line, place_of, read_books

if TYPE_CHECKING:
    from agent.outbox.stored import Account, Books, Place

LANE_NAMES = ("GAP", "P0", "P1")


@dataclass(frozen=True, slots=True)
class LaneAudit:
    """One lane of one epoch, or of all. `queued` are the rows that lie in the file."""

    lane: str
    allocated: int
    confirmed: int
    queued: int
    evicted: int
    rejected: int
    corrupt: int

    @property
    def holds(self) -> bool:
        """Whether allocated = confirmed + queued + evicted + corrupt, and none of them is below zero."""
        parts = self.confirmed, self.queued, self.evicted, self.corrupt
        return self.allocated == sum(parts) and min(parts) >= 0


@dataclass(frozen=True, slots=True)
class EpochAudit:
    """The lanes of one epoch; "unknown" is the name of one that only its rows tell of."""

    epoch: str
    boot_id: str
    lanes: tuple[LaneAudit, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """What one file of an outbox says. `damage` is "" where nothing was met."""

    path: Path
    epochs: tuple[EpochAudit, ...]
    notes: tuple[str, ...]
    size_bytes: int
    damage: str
    set_aside: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether every lane of every epoch adds up, and nothing is damaged."""
        return not self.damage and all(lane.holds for epoch in self.epochs for lane in epoch.lanes)

    @property
    def totals(self) -> tuple[LaneAudit, ...]:
        """The lanes of all epochs together."""
        return tuple(self._total(name) for name in LANE_NAMES)

    def _total(self, name: str) -> LaneAudit:
        of = [lane for epoch in self.epochs for lane in epoch.lanes if lane.lane == name]
        return LaneAudit(
            name,
            allocated=sum(lane.allocated for lane in of),
            confirmed=sum(lane.confirmed for lane in of),
            queued=sum(lane.queued for lane in of),
            evicted=sum(lane.evicted for lane in of),
            rejected=sum(lane.rejected for lane in of),
            corrupt=sum(lane.corrupt for lane in of),
        )


def outboxes(state_dir: Path) -> list[Path]:
    """Return the outboxes in `state_dir`: the one for the broker, those for files. Raises InputMissing."""
    found = [path for path in (state_dir / "outbox.db",) if path.exists()]
    with contextlib.suppress(OSError):
        found += sorted(state_dir.glob("sink-*.db"))
    if not found:
        fix = "give the agent's state directory (--state) or its configuration (--config)"
        raise InputMissing(f"no outbox in {state_dir}", fix=fix)
    return found


def audit(path: Path) -> Audit:
    """Read the file at one moment, beside a running agent or without one. Raises IOFault."""
    size_bytes = sum(file.stat().st_size for part in ("", "-wal") if (file := Path(f"{path}{part}")).exists())
    damage, books, rows = "", None, Counter[tuple[int, int]]()
    try:
        with contextlib.closing(_connected(path)) as connection:
            connection.execute("BEGIN")
            books = read_books(connection)
            damage = "" if books.whole else "accounts that do not fit their checksums"
            rows = _count(connection)
    except FILE_FAULTS as fault:
        if not is_damage(fault) and path.is_file():
            fix = "run it as the agent's user"
            raise IOFault(f"can't read the outbox {path}", seen=one_line(fault), fix=fix) from fault
        damage = one_line(fault)
    return Audit(
        path,
        epochs=() if books is None else tuple(_epochs(books, rows)),
        notes=() if books is None else tuple(sorted(books.notes)),
        size_bytes=size_bytes,
        damage=damage,
        set_aside=tuple(damaged_files(path)),
    )


def _connected(path: Path) -> sqlite3.Connection:
    """Return a connection that changes nothing; where no journal lies beside the file, none is begun."""
    quiet = "" if Path(f"{path}-wal").exists() else "&immutable=1"
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro{quiet}", uri=True, timeout=5, isolation_level=None
    )


def _count(connection: sqlite3.Connection) -> Counter[Place]:
    query = f"SELECT min(key), count(*) FROM message GROUP BY key >> {SEQ_BITS}"  # noqa: S608
    return Counter({place_of(key): count for key, count in connection.execute(query)})


def _epochs(books: Books, rows: Counter[Place]) -> list[EpochAudit]:
    places = sorted({*books.accounts, *rows})
    numbers = sorted({epoch for epoch, _ in places} | books.epochs.keys())
    audits = []
    for number in numbers:
        epoch = books.epochs.get(number)
        lanes = tuple(
            _lane(lane, books.accounts.get((number, lane)), rows[number, lane])
            for at, lane in places
            if at == number
        )
        audits.append(EpochAudit(epoch.name if epoch else "unknown", epoch.boot_id if epoch else "", lanes))
    return audits


def _lane(lane: int, account: Account | None, rows: int) -> LaneAudit:
    name = LANE_NAMES[lane] if 0 <= lane < len(LANE_NAMES) else f"lane {lane}"
    if account is None:
        return LaneAudit(name, 0, 0, rows, 0, 0, 0)
    return LaneAudit(
        name,
        account.allocated,
        account.confirmed,
        rows,
        account.evicted,
        account.rejected,
        account.corrupt,
    )
