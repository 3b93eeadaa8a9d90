"""The repair of a damaged file under a running outbox: the books follow when the new file is in its place."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.outbox.stored import place_of

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from agent.outbox.handout import Handout
    from agent.outbox.journal import Journal
    from agent.outbox.ledger import Ledger
    from agent.outbox.pending import Pending
    from agent.outbox.salvage import Found
    from agent.outbox.stored import Batch, Epoch, Place


def repair(
    changed: threading.Condition,
    journal: Journal,
    ledger: Ledger,
    pending: Pending,
    out: Handout,
    *,
    epoch: Epoch,
) -> Path | None:
    """Put a new file in the place of the damaged one, and begin `epoch`; return where the damaged one lies.

    `out` must be closed. When it raises what the disk says, file and books are as they were.
    """
    with changed:
        changed.wait_for(lambda: not out.taking)
        handed = set(out.handed)
        skip = pending.gone | pending.keys() | ledger.gap_keys()
    kept: list[Found] = []

    def still(found: Found) -> Found:
        """Return `found` without the rows that were confirmed or given up while it was made."""
        gone = Counter(map(place_of, pending.gone & found.present))
        return replace(found, rows=Counter({at: rows - gone[at] for at, rows in found.rows.items()}))

    def missing(found: Found) -> Counter[Place]:
        with changed:
            return ledger.missing(still(found), pending.places())

    def settle(found: Found) -> Batch:
        kept.append(found)
        with changed:
            return deepcopy(ledger).settle(still(found), pending.places(), epoch)

    aside = journal.repair(skip=skip, ask=handed, missing=missing, settle=settle)
    (found,) = kept
    with changed:  # what came meanwhile changes nothing of what is missing; the next commit writes all books
        ledger.not_entered(ledger.settle(still(found), pending.places(), epoch))
        pending.gone &= found.present
        out.repaired(found.present)
    return aside
