"""The rows on their way: which are in flight, and what each answer means for its row."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.backoff import Backoff
from agent.publisher.held import PATIENCE_S, REFUSALS, Held
from agent.transport import Outcome

if TYPE_CHECKING:
    from random import Random

    from agent.outbox.outbox import Outbox
    from agent.transport import Message, Report

log = logging.getLogger(__name__)

_ANSWER_S = 60.0


@dataclass(slots=True)
class Answers:
    """How many rows were answered how: `delivered`; `rejected`, dead letters; and answers after which a row stays.

    Those are `denied` (0x87), `busy` (0x97), `refused` (for no known reason), `lost` (with the connection).
    """

    delivered: int = 0
    rejected: int = 0
    denied: int = 0
    busy: int = 0
    refused: int = 0
    lost: int = 0


class UnderWay:
    """Settles answers with the outbox, each row once; time is an argument.

    Delivered: confirmed. Rejected: a dead letter, discarded and so reported as a gap. Denied, or refused for no
    known reason: kept aside and tried again (see Held). Over a quota: all sending rests until `resume_s`.
    """

    def __init__(self, outbox: Outbox, *, hold_s: float, rng: Random) -> None:
        self._outbox = outbox
        self.held = Held(hold_s=hold_s, rng=rng)
        self.answers = Answers()
        self.resume_s = 0.0
        self._quota = Backoff(first_s=1.0, max_s=60.0, rng=rng)
        self._in_flight: dict[int, Message] = {}
        self._backlog: set[int] = set()
        self._acknowledged, self._rested = 0, False

    def __len__(self) -> int:
        return len(self._in_flight)

    @property
    def backlog(self) -> int:
        """How many of those in flight are of the backlog."""
        return len(self._backlog)

    def add(self, message: Message, now_s: float, *, backlog: bool = False) -> None:
        """Note that `message` is sent."""
        self._in_flight[int(message.key)] = message
        self.held.postpone(message, now_s + _ANSWER_S)
        if backlog:
            self._backlog.add(int(message.key))

    def due(self, now_s: float) -> list[Message]:
        """Return the messages kept aside that are to be tried again now."""
        return [message for message in self.held.due(now_s) if message.key not in self._in_flight]

    def settle(self, report: Report, now_s: float) -> None:
        """Do what `report` of a row asks for; one that is not in flight is passed over."""
        message = self._in_flight.pop(int(report.key), None)
        self._backlog.discard(int(report.key))
        if message is None:
            return
        if report.outcome is Outcome.DELIVERED:
            self._arrived(message)
        elif report.outcome is Outcome.REJECTED:
            self.answers.rejected += 1
            self._give_up(message, report.detail)
        elif report.outcome is Outcome.DENIED:
            self.answers.denied += 1
            self._hold(message, report.detail, now_s)
        elif report.outcome is Outcome.REFUSED:
            self.answers.refused += 1
            self._refused(message, report.detail, now_s)
        elif report.outcome is Outcome.BUSY:
            self.answers.busy += 1
            self._wait(message, now_s)
            self.pause(report.detail, now_s)
        else:
            self.answers.lost += 1
            self._wait(message, now_s)

    def pause(self, detail: str, now_s: float) -> None:
        """Let all sending rest for a while, ever longer until something arrives."""
        if now_s >= self.resume_s:
            self.resume_s = now_s + self._quota.next_s()
            if not self._rested:
                log.warning("the broker takes no more for now (%s): sending rests, longer each time", detail)
            self._rested = True

    def forget(self) -> None:
        """Have all in flight and aside wait in the outbox again."""
        self._in_flight.clear()
        self._backlog.clear()
        self.held.clear()
        self._outbox.release_all()

    def _arrived(self, message: Message) -> None:
        self.answers.delivered += 1
        self._acknowledged += bool(message.qos)
        self._quota.reset()
        self._rested = False
        self._outbox.confirm([int(message.key)])
        self._settled(message)

    def _give_up(self, message: Message, detail: str) -> None:
        log.error("message on %s will never be taken (%s): given up and reported", message.topic, detail)
        self._outbox.discard([int(message.key)], reason="rejected")
        self._settled(message)

    def _settled(self, message: Message) -> None:
        if self.held.settled(message):
            log.warning("the broker takes messages on %s again", message.topic)

    def _hold(self, message: Message, detail: str, now_s: float) -> None:
        known = message.topic in self.held.topics
        if self.held.deny(message, now_s) == "back":
            self._outbox.release([int(message.key)])
        if not known:
            log.error("the broker denies messages on %s (%s): they are kept", message.topic, detail)

    def _refused(self, message: Message, detail: str, now_s: float) -> None:
        resting = now_s < self.resume_s
        verdict = self.held.refuse(message, now_s, arrived=self._acknowledged, resting=resting)
        if verdict == "dead":
            self.answers.rejected += 1
            self._give_up(message, f"{detail}, {REFUSALS} times and more in {PATIENCE_S / 60:g} minutes")
        elif verdict == "back":
            back = [message, *self.held.release()]
            self._outbox.release([int(m.key) for m in back if int(m.key) not in self._in_flight])
            self.pause(detail, now_s)

    def _wait(self, message: Message, now_s: float) -> None:
        if not self.held.postpone(message, now_s):
            self._outbox.release([int(message.key)])
