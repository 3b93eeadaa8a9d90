"""The thread that commits: in groups, for ever; it makes room on a full disk and repairs a damaged file."""

from __future__ import annotations

import errno
import logging
import threading
import time
from typing import TYPE_CHECKING

from agent.heartbeat import DISK_S, Beat
from agent.outbox.ledger import Lane
from agent.outbox.repair import repair
from agent.outbox.stored import FILE_FAULTS, Batch, is_damage, make_key, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.outbox.handout import Handout
    from agent.outbox.journal import Journal
    from agent.outbox.ledger import Ledger
    from agent.outbox.pending import Pending
    from agent.outbox.stored import Epoch

log = logging.getLogger(__name__)

_RETRY_S = 1.0
_REPAIR_EVERY_S, _REPAIR_LATEST_S = 10.0, 160.0
_LAST_S, _LAST_TRIES = 4.0, 2
"""At the end: all is committed within this time, but for a disk that refuses twice."""
_JOIN_S = _LAST_S + 1.0
_ROWS, _ROWS_FAILING = 1024, 128
"""Of each lane in one commit; few while the disk refuses, that they fit what the ballast leaves."""
_PAGE, _VICTIMS = 256, 2048


class Committer:
    """Writes what is pending within the time that `schedule` was told. `changed` is the lock of all parts."""

    def __init__(
        self,
        changed: threading.Condition,
        journal: Journal,
        ledger: Ledger,
        pending: Pending,
        out: Handout,
        *,
        max_bytes: int,
        max_waiting: int,
        new_epoch: Callable[[], Epoch],
    ) -> None:
        self._changed, self._journal, self._ledger = changed, journal, ledger
        self._pending, self._out, self._new_epoch = pending, out, new_epoch
        self._max_bytes, self._max_waiting = max_bytes, max_waiting
        self._due_s: float | None = None
        self.committed_s = time.monotonic()
        self.failing, self.repaired, self.used_bytes = "", 0, 0
        self.beat = Beat(DISK_S)
        self.notify: Callable[[], None] = lambda: None
        self._damage: Exception | None = None
        self._repaired_s = -_REPAIR_EVERY_S
        self._repairs_failed = 0
        self._changes = self._durable = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        """Begin to commit."""
        self._thread.start()

    def schedule(self, within_s: float) -> None:
        """Have a commit within this time, unless the disk refuses and its retry is due later. Under the lock."""
        self._changes += 1
        due_s = time.monotonic() + within_s
        if self._due_s is None or (due_s < self._due_s and not self.failing):
            self._due_s = due_s
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Commit all that was scheduled so far; return whether that was done within `timeout_s`."""
        with self._changed:
            target = self._changes
            if self._durable < target:
                self.schedule(0.0)
            return self._changed.wait_for(lambda: self._durable >= target, timeout_s)

    def close(self) -> bool:
        """Commit all there is and end the thread; return whether it has ended. What is still pending is lost."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(_JOIN_S)
        return not self._thread.is_alive()

    def damaged(self, fault: Exception) -> None:
        """Have the file repaired by the next round. From any thread."""
        with self._changed:
            if self._damage is None:
                self._damage, self._out.closed = fault, True
                again = time.monotonic() - self._repaired_s < _REPAIR_EVERY_S
                self.schedule(_REPAIR_EVERY_S if again else 0.0)
                self.failing = self.failing or one_line(fault)

    # -- the thread --

    def _run(self) -> None:
        while self._wait_until_due():
            self._round()
        end_s, refused = time.monotonic() + _LAST_S, 0
        while refused < _LAST_TRIES and time.monotonic() < end_s:
            self._round()
            if self._durable == self._changes:
                break
            refused += bool(self.failing)

    def _wait_until_due(self) -> bool:
        with self._changed:
            while not self._closing:
                wait_s = None if self._due_s is None else self._due_s - time.monotonic()
                if wait_s is not None and wait_s <= 0:
                    return True
                self._changed.wait(wait_s)
        return False

    def _round(self) -> None:
        """Repair if need be, commit, keep below the bounds. Whatever happens, there is another round."""
        self.beat.begin("commit", time.monotonic())
        try:
            if self._damage is not None:
                self._repair(self._damage)
            self._commit()
            self._keep_below(self._max_bytes)
        except Exception as fault:  # noqa: BLE001 - without this thread all is lost
            self._failed(fault)
        else:
            self._journal.ballast.restore(time.monotonic())
            with self._changed:
                failed, self.failing = self.failing, ""
            if failed:
                log.warning("outbox: the disk takes messages again")
            self.notify()
        self.beat.wait()

    def _failed(self, fault: Exception) -> None:
        """Look for a way on: repair, the ballast, room made in the file; else wait and try again."""
        if is_damage(fault) and self._damage is None:
            self.damaged(fault)
            return
        with self._changed:
            first, self.failing = not self.failing, one_line(fault)
            self._due_s = time.monotonic() + (_RETRY_S if self._damage is None else self._repair_in_s())
        if first:
            log.error("outbox: the disk refuses (%s): messages wait in memory", one_line(fault))
            log.debug("outbox: fault", exc_info=fault)
        if not _is_full(fault):
            return
        if self._journal.ballast.release():
            log.warning("outbox: the disk is full: the ballast beside %s is given up", self._journal.path)
            with self._changed:
                self._due_s = time.monotonic()
        elif len(self._pending) > self._max_waiting // 2 and not self._closing:
            try:
                self._keep_below(self.used_bytes - self.used_bytes // 20)
            except FILE_FAULTS as again:
                log.debug("outbox: no room can be made: %s", again)

    def _repair_in_s(self) -> float:
        """Return when to try a repair again that failed: each try may write as much as the file holds."""
        self._repairs_failed += 1
        return float(min(_REPAIR_EVERY_S * 2 ** (self._repairs_failed - 1), _REPAIR_LATEST_S))

    def _commit(self) -> None:
        """Write waiting rows, notes, deletions, grown gaps and accounts in one transaction."""
        with self._changed:
            self._due_s, self.committed_s, changes = None, time.monotonic(), self._changes
            load = self._pending.leave(_ROWS_FAILING if self.failing else _ROWS)
            left = self._pending.places()
            entries = self._ledger.entries(left)
        batch = Batch(
            [*entries.rows, *load.rows],
            load.deleted,
            load.notes,
            entries.epochs,
            entries.accounts,
            entries.ended,
        )
        try:
            if batch:
                self._journal.commit(batch)
        except BaseException:
            with self._changed:
                self._pending.put_back(load)
                self._ledger.not_entered(entries)
                self.bound_waiting()
            raise
        with self._changed:
            self._pending.arrived(load)
            self._ledger.entered(entries)
            self._out.committed(load.deleted, [row.key for row in entries.rows])
            if left:
                self.schedule(0.0)
            else:
                self._durable = changes
            self._changed.notify_all()
        self.used_bytes = self._journal.used_bytes()

    def bound_waiting(self) -> None:
        """Give up what is too much to be kept in memory. Under the lock."""
        while len(self._pending) > self._max_waiting and (key := self._pending.shed()) is not None:
            self._ledger.lose(key, "disk_refuses")

    def _keep_below(self, most_bytes: int) -> None:
        """Give up rows until the file needs a twentieth less than `most_bytes`: P1 before P0, the oldest first.

        A bounded number at a time: the next round goes on. Raises sqlite3.Error.
        """
        excess = self.used_bytes - most_bytes
        if excess <= 0 or self._closing:
            return
        excess, victims, freed = excess + most_bytes // 20, _VICTIMS, 0
        for lane in (Lane.P1, Lane.P0):
            key, end = make_key(lane, 0, 0), make_key(lane + 1, 0, 0)
            while freed < excess and victims > 0 and (page := self._journal.sizes(key, end, _PAGE)):
                key = page[-1][0] + 1
                victims -= len(page)
                freed += self._give_up(page, excess - freed)
        if freed:
            with self._changed:
                self.schedule(0.0)

    def _give_up(self, page: list[tuple[int, int]], excess: int) -> int:
        """Give up rows of `page` that are not under way until `excess` bytes are had; return the bytes."""
        freed = 0
        with self._changed:
            for key, size_bytes in page:
                if freed >= excess:
                    break
                if key in self._out.handed:
                    continue
                freed += size_bytes
                if key not in self._pending.gone:
                    self._out.forget(key)
                    self._pending.gone.add(key)
                    self._ledger.lose(key, "disk_full")
        return freed

    def _repair(self, damage: Exception) -> None:
        """Put a new file in the place of the damaged one, in a new epoch. Raises what the disk says."""
        aside = repair(
            self._changed, self._journal, self._ledger, self._pending, self._out, epoch=self._new_epoch()
        )
        with self._changed:
            self._damage, self._out.closed = None, False
            self.repaired, self._repaired_s, self._repairs_failed = self.repaired + 1, time.monotonic(), 0
        log.error(
            "outbox %s was damaged (%s): kept as %s, what is good goes on",
            self._journal.path,
            one_line(damage),
            aside,
        )


def _is_full(fault: Exception) -> bool:
    return "is full" in str(fault) or (isinstance(fault, OSError) and fault.errno == errno.ENOSPC)
