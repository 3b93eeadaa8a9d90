"""The kill storm: the process that holds the outbox dies at random times, the broker restarts meanwhile."""

from __future__ import annotations

import random
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.e2e.brokers import wait_for
from tests.faults.lab import lab

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.lab import Lab, Storm
    from tests.faults.oracle import Verdict

MIN_HZ, MAX_HZ = 200.0, 1000.0
WINDOW = 2 * 64
"""So many messages may be sent again when one of the two ends: those under way, and answers not kept yet."""
_AWAY_S = 0.5  # the longest that the broker stays away
_EARLY = 0.1  # so many processes are killed before or while they open the outbox
_EARLY_S = 0.5
_LIFE_S = 2.0  # of the others, on average
_END_S = 600.0


@dataclass(frozen=True)
class StormResult:
    """The verdict, and what was done to get it; `broker_ended` tells how and after which numbers, each time."""

    verdict: Verdict
    events: int
    kills: int
    restarts: int
    restarts_by_kill: int
    hz: float
    took_s: float
    drained: bool
    status_holds: bool
    broker_ended: tuple[str, ...]

    @property
    def copies_explained(self) -> bool:
        """No more messages came twice than were under way at all the ends together."""
        return self.verdict.copies <= WINDOW * (self.kills + self.restarts)

    def as_dict(self) -> dict[str, Any]:
        """Return all figures."""
        return {**vars(self), "verdict": self.verdict.as_dict()}


class Restarts:
    """Ends the broker and starts it again, in a thread: processes die and start meanwhile."""

    def __init__(self, made: Lab, dice: random.Random, by_kill: int) -> None:
        self._lab, self._dice, self._by_kill = made, dice, by_kill
        self._thread: threading.Thread | None = None
        self._connections = 0
        self.done = self.done_by_kill = 0
        self.ended: list[str] = []

    def begin(self, storm: Storm) -> None:
        """End the broker now, and start it again soon; the restart before must be over."""
        self.join()
        self._connections = self._count()
        last = storm.said[-1].get("last", {}) if storm.said else {}
        if self.done_by_kill < self._by_kill and not storm.ended:
            self._kill(storm)
            self.ended.append(f"kill, {last}")
        else:
            self._lab.broker.terminate()
            self.ended.append(f"SIGTERM, {last}")
        self._thread = threading.Thread(target=self._start)
        self._thread.start()

    def join(self) -> None:
        """Wait for the restart that is under way."""
        if self._thread is not None:
            self._thread.join()

    def _kill(self, storm: Storm) -> None:
        """Kill -9, when the witness has all that was acknowledged: what is not passed on is lost with the broker."""
        storm.process.send_signal(signal.SIGSTOP)
        self._lab.settle()
        self._lab.broker.kill()
        storm.process.send_signal(signal.SIGCONT)
        self.done_by_kill += 1

    def _start(self) -> None:
        time.sleep(self._dice.uniform(0, _AWAY_S))
        self._lab.broker.start()
        self.done += 1
        wait_for(lambda: self._count() > self._connections, 180, "the witness to be back")

    def _count(self) -> int:
        return self._lab.record.read_text(encoding="utf-8").count("C\n")


def run_storm(
    folder: Path,
    *,
    events: int,
    kills: int,
    restarts: int,
    restarts_by_kill: int = 0,
    seed: int = 1,
) -> StormResult:
    """Report `events` or more, 200 to 1000 a second, with `kills` and `restarts` at random times.

    The broker is ended by SIGTERM, when it saves its sessions, or `restarts_by_kill` times by kill -9. What it has
    acknowledged and not passed on is lost with it then (measured, with a slow subscriber: hundreds), and no sender
    can know: such a kill waits, with the sender stopped, until the witness has all.
    """
    dice, begin_s = random.Random(seed), time.monotonic()
    each = events / max(1, kills * (1 - _EARLY))
    hz = min(max(MIN_HZ, each / _LIFE_S), MAX_HZ)
    with lab(folder) as made:
        made.broker.process.send_signal(signal.SIGUSR1)  # saves the witness's session, for a kill -9
        restarting = Restarts(made, dice, restarts_by_kill)
        broken = set(dice.sample(range(kills), min(kills, restarts)))
        done = 0
        while done < kills:
            with made.storm(hz=hz, seed=seed * 1_000_000 + done) as storm:
                if early := dice.random() < _EARLY:
                    time.sleep(dice.uniform(0, _EARLY_S))
                else:
                    storm.wait_open()
                life_s = 0.0 if early else dice.uniform(0, 2 * each / hz)
                if done in broken:
                    before_s = life_s * dice.random()
                    time.sleep(before_s)
                    restarting.begin(storm)
                    life_s -= before_s
                time.sleep(life_s)
                storm.kill()
            done += 1
        restarting.join()
        status_holds = made.status_holds()
        if (left := events - made.oracle.committed) > 0:
            with made.storm(hz=hz, count=left, seed=seed * 1_000_000 - 1) as storm:
                storm.process.wait(left / hz + _END_S)
        drained = made.drain()
        return StormResult(
            made.judge(),
            made.oracle.committed,
            done,
            restarting.done,
            restarting.done_by_kill,
            hz,
            time.monotonic() - begin_s,
            drained,
            status_holds,
            tuple(restarting.ended),
        )
