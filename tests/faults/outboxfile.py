"""What an outbox file says of itself, read from a copy, with SQLite alone and none of the agent's code."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

_LANES = ("GAP", "P0", "P1")
_SEQ_BITS, _EPOCH_BITS = 38, 22  # of a row's key: lane, epoch number, seq


@dataclass(frozen=True)
class Account:
    """What became of the messages of one epoch and lane, as the file has it; `queued` are its rows, by number."""

    allocated: int
    confirmed: int
    evicted: int
    corrupt: int
    queued: frozenset[int] = field(repr=False)

    @property
    def holds(self) -> bool:
        """Whether every number that was given out is accounted for, once."""
        return self.allocated == self.confirmed + len(self.queued) + self.evicted + self.corrupt


def read_accounts(file: Path) -> dict[tuple[str, str], Account]:
    """Return the accounts of `file` by (epoch, lane). No process may have it open; it is left as it is."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(file.with_name(file.name + suffix), copy.with_name(copy.name + suffix))
        with contextlib.closing(sqlite3.connect(copy)) as reader:
            names = dict(reader.execute("SELECT number, name FROM epoch"))
            rows: dict[tuple[int, int], set[int]] = {}
            for (key,) in reader.execute("SELECT key FROM message"):
                head, seq = divmod(key, 1 << _SEQ_BITS)
                lane, epoch = divmod(head, 1 << _EPOCH_BITS)
                rows.setdefault((epoch, lane), set()).add(seq)
            query = "SELECT epoch, lane, allocated, confirmed, evicted, corrupt FROM account"
            return {
                (names[epoch], _LANES[lane]): Account(*counts, queued=frozenset(rows.get((epoch, lane), ())))
                for epoch, lane, *counts in reader.execute(query)
            }
