"""What is sent on a connection: as much as the broker takes, and what it answers to each message."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from agent.mqtt import reasons
from agent.mqtt.inflight import InFlight
from agent.mqtt.receiving import properties_of
from agent.transport import Outcome, Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.client import Client as PahoClient

    from agent.mqtt.causes import Causes
    from agent.mqtt.client import Client
    from agent.mqtt.connecting import Limits
    from agent.mqtt.reconnecting import Reconnecting
    from agent.transport import Message

log = logging.getLogger(__name__)

_PACKET_OVERHEAD_BYTES = 32


class Sending:
    """Messages under way, and reports of what became of each. `again` and `causes` hear of the answers.

    `strays` counts answers to nothing that was under way.
    """

    def __init__(
        self, where: str, limits: Limits, again: Reconnecting, causes: Causes, clock: Callable[[], float]
    ) -> None:
        self._where, self._limits, self._clock = where, limits, clock
        self._again, self._causes = again, causes
        self._client: Client | None = None
        self._new = False
        self._in_flight = InFlight()
        self._reports: deque[Report] = deque()
        self.strays = 0

    def accepted(self, client: Client, limits: Limits, *, new: bool) -> None:
        """Note that a broker of these limits has accepted `client`; `new`: it is of MQTT 5."""
        self._client, self._limits, self._new = client, limits, new

    @property
    def room(self) -> int:
        """How many more messages may be under way."""
        window = 1 if self._again.careful else self._limits.window
        return max(0, window - len(self._in_flight)) if self._client is not None else 0

    def send(self, message: Message) -> None:
        """Hand `message` to the broker."""
        size_bytes = len(message.payload) + len(message.topic.encode()) + _PACKET_OVERHEAD_BYTES
        if size_bytes > self._limits.max_packet_bytes > 0:
            detail = f"{size_bytes} bytes, the broker takes {self._limits.max_packet_bytes}"
            self._reports.append(Report(message.key, Outcome.REJECTED, detail))
            return
        if self._client is None:
            self._reports.append(Report(message.key, Outcome.LOST))
            return
        retain = message.retain and self._limits.retains
        try:
            more = properties_of(message.correlation) if self._new else None
            info = self._client.publish(message.topic, message.payload, message.qos, retain, more)
        except ValueError as fault:
            self._reports.append(Report(message.key, Outcome.REJECTED, str(fault)))
            return
        if message.qos == 0:
            self._reports.append(Report(message.key, Outcome.DELIVERED))
        else:
            self._in_flight.add(info.mid, message, self._clock())

    def answered(self, client: PahoClient, mid: int, code: int) -> None:
        """Note the PUBACK for the packet `mid` with the reason `code`."""
        message = self._in_flight.answered(mid) if client is self._client else None
        if message is None:
            self.strays += 1
            log.debug("broker %s: an answer to nothing that is under way (%d)", self._where, mid)
            return
        outcome = reasons.outcome_of(code)
        if outcome is Outcome.DELIVERED:
            self._again.confirmed()
        elif outcome is Outcome.DENIED:
            self._causes.denied(message.topic, self._clock())
            self._again.denied()
        self._reports.append(Report(message.key, outcome, reasons.in_words(code)))

    def oldest_s(self, now_s: float) -> float:
        """Return for how long the first message waits for its answer; 0 without any."""
        return self._in_flight.oldest_s(now_s)

    def reject_largest(self, why: str) -> None:
        """Give up the largest message under way: the one that the broker did not want to see again."""
        if (message := self._in_flight.largest()) is not None:
            self._reports.append(Report(message.key, Outcome.REJECTED, why))

    def lost(self) -> None:
        """Note that the connection is gone, and with it what was under way."""
        self._client = None
        self._reports.extend(Report(message.key, Outcome.LOST) for message in self._in_flight.forget())

    @property
    def reported(self) -> bool:
        """Whether there are reports to be taken."""
        return bool(self._reports)

    def take_reports(self) -> list[Report]:
        """Return what became of messages since the last call."""
        reports = list(self._reports)
        self._reports.clear()
        return reports
