"""Which rows of the outbox are sent now: what is new first, the backlog at its pace beside it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.pace import Pace
from agent.publisher.underway import UnderWay

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from agent.outbox.outbox import Outbox
    from agent.transport import Message, Transport

log = logging.getLogger(__name__)

_BURST = 64


class Rows:
    """Sends rows as far as there is room; time is an argument.

    The backlog (earlier epochs, updates) uses at most half of the messages that may be in flight, and at most
    `backlog_hz`. `freshen` gives the payload to send of a message whose times were made while the clock was not
    synchronised.
    """

    def __init__(
        self,
        outbox: Outbox,
        transport: Transport,
        *,
        freshen: Callable[[Message], bytes] | None,
        hold_s: float,
        backlog_hz: float,
        rng: Random,
    ) -> None:
        self._outbox, self._transport, self._freshen = outbox, transport, freshen
        self.under_way = UnderWay(outbox, hold_s=hold_s, rng=rng)
        self._pace, self._more = Pace(backlog_hz, burst=_BURST), False

    def send(self, now_s: float, *, others: int) -> None:
        """Send what may go now; `others` are under way that are no rows."""
        for message in self.under_way.due(now_s):
            if self._transport.room:
                self._send(message, now_s)
        denied = self.under_way.held.topics
        if room := self._transport.room:
            for message in self._outbox.take(room, rest=0, except_topics=denied):
                self._send(message, now_s)
        if room := self._room_for_backlog(now_s, others):
            taken = self._outbox.take(room, rest=room, except_topics=denied)
            self._pace.take(len(taken))
            self._more = len(taken) == room
            for message in taken:
                self._send(message, now_s, backlog=True)

    def wait_s(self, now_s: float) -> float:
        """Return how long until more may go, other than what is new; infinite where nothing waits."""
        pace_s = self._pace.wait_s(_BURST // 2) if self._more else 0.0
        return min(self.under_way.held.wait_s(now_s), pace_s or float("inf"))

    def _room_for_backlog(self, now_s: float, others: int) -> int:
        """Return how many messages of the backlog may go now: none, or enough to be worth a look into the outbox."""
        room = self._transport.room
        share = max(1, (room + len(self.under_way) + others) // 2)
        free = min(room, share - self.under_way.backlog, self._pace.room(now_s))
        return free if free * 2 >= share else 0

    def _send(self, message: Message, now_s: float, *, backlog: bool = False) -> None:
        self.under_way.add(message, now_s, backlog=backlog)
        self._transport.send(self._freshened(message))

    def _freshened(self, message: Message) -> Message:
        """Return `message` with the payload to send now; as it is when that can't be made."""
        if message.offset_s is None or self._freshen is None:
            return message
        try:
            return replace(message, payload=self._freshen(message))
        except Exception as fault:  # noqa: BLE001 - one odd payload must not hold up the others for ever
            log.error("message on %s keeps its times: %s: %s", message.topic, type(fault).__name__, fault)
            return message
