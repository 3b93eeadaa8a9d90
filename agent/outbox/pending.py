"""What was decided and is not on disk yet: rows, notes, deletions."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.outbox.ledger import Lane, places

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection

    from agent.outbox.stored import Place, Stored


@dataclass(frozen=True, slots=True)
class Load:
    """What goes with one commit."""

    rows: dict[Lane, list[Stored]]
    notes: dict[str, bytes | None]
    deleted: set[int]


class Pending:
    """Rows, notes and deletions on their way to the disk. No lock, no disk. `noted`: the notes that are there."""

    def __init__(self, noted: Collection[str]) -> None:
        self.gone: set[int] = set()
        self._rows: dict[Lane, deque[Stored]] = {lane: deque() for lane in (Lane.P0, Lane.P1)}
        self._notes: dict[str, bytes | None] = {}
        self._noted = set(noted)
        self._leaving = 0

    def __len__(self) -> int:
        return self._leaving + sum(map(len, self._rows.values()))

    def add(self, lane: Lane, row: Stored) -> None:
        """Have `row` written."""
        self._rows[lane].append(row)

    def note(self, key: str, value: bytes | None) -> None:
        """Have the note `key` written, or forgotten where `value` is None."""
        if value is None and key not in self._noted:
            self._notes.pop(key, None)
        else:
            self._notes[key] = value

    def places(self) -> Counter[Place]:
        """Return how many rows of each epoch and lane wait."""
        return places(row.key for rows in self._rows.values() for row in rows)

    def keys(self) -> set[int]:
        """Return the keys of the rows that wait."""
        return {row.key for rows in self._rows.values() for row in rows}

    def shed(self) -> int | None:
        """Give up the row that can be spared first; return its key, None when no row waits."""
        rows = self._rows[Lane.P1] or self._rows[Lane.P0]
        return rows.popleft().key if rows else None

    def leave(self, limit: int) -> Load:
        """Take up to `limit` rows of each lane and all else; to be answered with `arrived` or `put_back`.

        What is to be deleted stays in `gone` until it is: a read may still see it.
        """
        rows = {
            lane: [waiting.popleft() for _ in range(min(limit, len(waiting)))]
            for lane, waiting in self._rows.items()
        }
        load = Load(rows, self._notes, set(self.gone))
        self._notes, self._leaving = {}, sum(map(len, rows.values()))
        self._noted |= load.notes.keys()
        return load

    def arrived(self, load: Load) -> None:
        """Note that `load` is on disk."""
        self._leaving = 0
        self.gone -= load.deleted
        self._noted -= {key for key, value in load.notes.items() if value is None and key not in self._notes}

    def put_back(self, load: Load) -> None:
        """Keep what the disk did not take."""
        self._leaving = 0
        for lane, rows in load.rows.items():
            self._rows[lane].extendleft(reversed(rows))
        self._notes = {**load.notes, **self._notes}
