"""The publisher's answers to what a broker says of a message, on a clock of the test's."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

from agent.ledger import Lane
from agent.outbox import Outbox
from agent.publisher import Publisher
from agent.transport import Link, Message, Outcome, Report

if TYPE_CHECKING:
    from pathlib import Path


class Broker:
    """A Transport that refuses one payload for a reason of its own and takes all others."""

    def __init__(self, poison: bytes) -> None:
        self.link, self.room = Link(True, 1, "test"), 64
        self.sent: list[Message] = []
        self.taken: list[bytes] = []
        self._poison = poison

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def poll(self, _timeout_s: float) -> list[Report]:
        reports = [self._report(message) for message in self.sent]
        self.sent = []
        return reports

    def _report(self, message: Message) -> Report:
        if message.payload == self._poison:
            return Report(message.key, Outcome.REFUSED, "0x80 Unspecified error")
        self.taken.append(message.payload)
        return Report(message.key, Outcome.DELIVERED)

    def wake(self) -> None: ...

    def reset(self) -> None: ...

    def close(self) -> None: ...


def test_a_poisoned_message_is_given_up_after_five_refusals(tmp_path: Path) -> None:
    """It does not block those behind it for ever: a dead letter, told as a gap, and the rest arrives."""
    now = [0.0]
    broker = Broker(b"poison")
    with Outbox(tmp_path / "outbox.db", device="dev", gap_topic="gap") as outbox:
        publisher = Publisher(outbox, broker, rng=random.Random(1), clock=lambda: now[0])
        outbox.put(Lane.P0, "t", lambda _: b"poison")
        outbox.put(Lane.P0, "t", lambda _: b"good")
        assert outbox.flush(5)
        refused = 0
        for _ in range(12):
            publisher._round()
            outbox.flush(5)
            refused = max(refused, *publisher._refusals.values(), 0)
            now[0] += 61.0
        assert refused == 4
        counts = outbox.counts()[Lane.P0]
        assert (counts.confirmed, counts.evicted, counts.queued) == (1, 1, 0)
        assert not publisher._refusals
        assert outbox.idle()
    assert broker.taken[0] == b"good"
    gap = json.loads(broker.taken[1])
    assert (gap["from_seq"], gap["to_seq"], gap["count"], gap["reason"]) == (1, 1, 1, "rejected")


def test_a_message_taken_after_some_refusals_is_no_dead_letter(tmp_path: Path) -> None:
    """Four refusals and then a yes: delivered, and its count forgotten."""
    now = [0.0]
    broker = Broker(b"poison")
    with Outbox(tmp_path / "outbox.db", device="dev", gap_topic="gap") as outbox:
        publisher = Publisher(outbox, broker, rng=random.Random(1), clock=lambda: now[0])
        outbox.put(Lane.P0, "t", lambda _: b"poison")
        assert outbox.flush(5)
        for _ in range(4):
            publisher._round()
            now[0] += 61.0
        broker._poison = b""
        publisher._round()
        assert outbox.counts()[Lane.P0].confirmed == 1
        assert not publisher._refusals
