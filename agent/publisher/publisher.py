"""The publisher: one thread that takes messages from the outbox, sends them, confirms what arrived."""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING

from agent.backoff import Backoff
from agent.heartbeat import DISK_S, Beat
from agent.publisher.asking import Asking
from agent.publisher.farewell import say_farewell
from agent.publisher.notes import Notes
from agent.publisher.retained import Retained
from agent.publisher.rows import Rows
from agent.publisher.state import PublisherState
from agent.transport import Message, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.outbox.outbox import Outbox
    from agent.transport import Presence, Received, Report, Transport

log = logging.getLogger(__name__)

_POLL_S = 1.0
BEHIND = 64
"""So many begins and ends of this epoch waiting at a connect are a backlog: it drains as one, behind a new epoch."""
BACKLOG_HZ = 1000.0
"""What the backlog may be sent with, to leave broker and processor room for what is new."""


class Publisher:
    """Sends what the outbox holds, and the last value of each retained topic at every connect.

    Which rows go when: see Rows; what becomes of one that is not taken: see UnderWay. When begins and ends of the
    current epoch have piled up while the broker was away, a new epoch begins once the birth is told, so that these
    are backlog too. `presence` is told first, and last.
    """

    def __init__(
        self,
        outbox: Outbox,
        transport: Transport,
        *,
        presence: Presence | None = None,
        freshen: Callable[[Message], bytes] | None = None,
        hold_s: float = 60.0,
        backlog_hz: float = BACKLOG_HZ,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox, self._transport, self._presence = outbox, transport, presence
        self._clock = clock
        self.beat = Beat(DISK_S)  # to take, to confirm and to begin an epoch is to read and write the outbox
        rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._rows = Rows(outbox, transport, freshen=freshen, hold_s=hold_s, backlog_hz=backlog_hz, rng=rng)
        self._under_way = self._rows.under_way
        self._retained, self._notes = Retained(hold_s), Notes()
        self._rest = Backoff(first_s=0.5, max_s=10.0, rng=rng)
        self._greeting = False
        self._session = 0
        self._faults, self._fault = 0, ""
        self._asking = Asking()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._announce()
        outbox.on_commit(transport.wake)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def retain(self, topic: str, payload: bytes) -> None:
        """Have `payload` as the retained message of `topic`: the last value wins, told at every connect."""
        self._retained.put(topic, payload)
        self._transport.wake()

    def told(self, topic: str) -> bool:
        """Return whether the broker has the retained message of `topic` as it is now."""
        return self._retained.told(topic)

    def retained_topics(self) -> list[str]:
        """Return the topics that `retain` was called for."""
        return self._retained.topics

    def note(self, topic: str, payload: bytes, *, correlation: bytes | None = None) -> None:
        """Have `payload` sent to `topic` once, before all that waits; it is dropped where that fails."""
        self._notes.put(topic, payload, correlation)
        self._transport.wake()

    def listen(self, topic: str, take: Callable[[Received], None], *, kept: bool = False) -> None:
        """Have what comes on `topic` handed to `take`, on this thread: it neither blocks nor raises."""
        self._transport.listen(topic, take, kept=kept)

    def drain(self, timeout_s: float) -> bool:
        """Wait until all that was committed is confirmed; return False when `timeout_s` was not enough."""
        number = self._asking.ask()
        self._transport.wake()
        end_s = time.monotonic() + timeout_s
        while (left_s := end_s - time.monotonic()) > 0 and self._thread.is_alive():
            if self._asking.wait(number, min(left_s, _POLL_S)):
                return True
        return False

    def stop(self, timeout_s: float = 2.0) -> None:
        """Say farewell, close the transport, end the thread; what is not confirmed stays in the outbox."""
        self._stopping.set()
        self._transport.wake()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        elif not self._thread.ident:
            self._transport.close()
        if self._thread.is_alive():
            log.warning("publisher: still connecting, left behind")

    @property
    def state(self) -> PublisherState:
        """How it stands now."""
        link, answers = self._transport.link, self._under_way.answers
        denied = tuple(sorted(self._under_way.held.topics | self._retained.denied))
        return PublisherState(
            alive=self._thread.is_alive(),
            connected=link.connected,
            connections=link.session,
            protocol=link.protocol,
            in_flight=len(self._under_way),
            delivered=answers.delivered,
            rejected=answers.rejected,
            denied=answers.denied,
            busy=answers.busy,
            refused=answers.refused,
            lost=answers.lost,
            strays=link.strays,
            faults=self._faults,
            denied_topics=denied,
            last_error=self._fault or link.error or (f"the broker denies {denied[0]}" if denied else ""),
            notes_dropped=self._notes.dropped,
            unread_topics=link.unread,
        )

    # -- the thread --

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._guard(self._round)
        self.beat.wait()
        self._guard(self._say_farewell)

    def _guard(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as fault:  # noqa: BLE001 - the thread's outermost level: it never dies silently
            self._recover(fault)

    def _round(self) -> None:
        """Send what there is room for, and settle what came back."""
        now_s = self._clock()
        self.beat.begin("send", now_s)
        if self._transport.link.session != self._session:
            self._greet()
        elif self._outbox.epoch != self._epoch:
            self._announce()
        if now_s >= self._under_way.resume_s:
            self._send(now_s)
        wait_s = self._poll_s()
        self.beat.wait()
        reports = self._transport.poll(wait_s)
        self.beat.begin("settle", self._clock())
        for report in reports:
            self._settle(report)
        self._answer_if_idle()

    def _recover(self, fault: Exception) -> None:
        """Begin anew with nothing under way: what was, is sent again."""
        self._faults += 1
        self._fault = f"{type(fault).__name__}: {fault}"
        log.error("publisher: %s; it goes on", self._fault)
        log.debug("publisher: fault", exc_info=fault)
        self.beat.wait()
        self._transport.reset()
        self._retained.forget_under_way()
        self._notes.forget_under_way()
        self._under_way.forget()
        self._session = 0
        self._stopping.wait(self._rest.next_s())

    def _poll_s(self) -> float:
        """Return how long to wait for something to come back, or for the next thing to send to be due."""
        now_s = self._clock()
        if not self._transport.room:
            return _POLL_S
        if self._under_way.resume_s > now_s:
            return min(_POLL_S, self._under_way.resume_s - now_s)
        return max(0.0, min(_POLL_S, self._rows.wait_s(now_s)))

    def _send(self, now_s: float) -> None:
        """Send what there is room for: retained values, the birth before all else, then answers, then rows."""
        for message in self._retained.take(self._transport.room, now_s):
            self._transport.send(message)
        for message in self._notes.take(self._transport.room):
            self._transport.send(message)
        self._rows.send(now_s, others=self._retained.under_way)

    def _greet(self) -> None:
        """Have all retained values told on a new connection, the birth first, made anew."""
        self._session = self._transport.link.session
        self._greeting = self._presence is not None
        self._announce()
        self._retained.begin()

    def _announce(self) -> None:
        """Have the birth told, with the epoch that is current now."""
        self._epoch = self._outbox.epoch
        if self._presence is not None:
            self._retained.put(self._presence.topic, self._presence.birth())

    def _greeted(self) -> None:
        """Begin a new epoch when this one has a backlog. Its own birth was told: no epoch's end goes untold."""
        self._greeting = False
        if self._outbox.backlog() > BEHIND:
            self._outbox.roll()

    def _settle(self, report: Report) -> None:
        now_s = self._clock()
        if isinstance(report.key, int):
            self._rest.reset()
            self._under_way.settle(report, now_s)
            if report.outcome is Outcome.DELIVERED:
                self._fault = ""
            return
        if self._notes.settle(report):
            return
        was_denied = report.key in self._retained.denied
        if self._retained.settle(report.key, report, now_s):
            log.error("the broker does not take the retained message on %s (%s)", report.key, report.detail)
        elif was_denied and report.outcome is Outcome.DELIVERED:
            log.warning("the broker takes the retained message on %s again", report.key)
        if report.outcome is Outcome.BUSY:
            self._under_way.pause(report.detail, now_s)
        birth = self._greeting and self._presence is not None and report.key == self._presence.topic
        if birth and report.outcome is Outcome.DELIVERED:
            self._greeted()

    # -- drain and stop --

    def _answer_if_idle(self) -> None:
        """Answer whoever waits in `drain`."""
        asked = self._asking.pending
        if asked and not len(self._under_way) and self._retained.done and self._outbox.idle():
            self._asking.answer(asked)

    def _say_farewell(self) -> None:
        """Tell that this device goes, and close."""
        if self._presence is not None:
            say_farewell(self._transport, self._presence, self._settle)
        self._transport.close()
