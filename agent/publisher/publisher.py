"""The publisher: one thread that takes messages from the outbox, sends them, confirms what arrived."""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.backoff import Backoff
from agent.heartbeat import DISK_S, Beat
from agent.publisher.asking import Asking
from agent.publisher.pace import Pace
from agent.publisher.retained import Retained
from agent.publisher.underway import UnderWay
from agent.transport import Message, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.outbox.outbox import Outbox
    from agent.transport import Presence, Report, Transport

log = logging.getLogger(__name__)

_POLL_S = 1.0
_FAREWELL_S = 1.0
BEHIND = 64
"""So many begins and ends of this epoch waiting at a connect are a backlog: it drains as one, behind a new epoch."""
BACKLOG_HZ = 1000.0
"""What the backlog may be sent with, to leave broker and processor room for what is new."""
_BURST = 64


@dataclass(frozen=True, slots=True)
class PublisherState:
    """How the sending stands. `alive`: its thread runs; whether it hangs, `Publisher.beat` tells.

    `delivered` to `lost` count answers as in `Answers`; `strays` answers to nothing that was sent; `faults` faults
    of this program; `connections` those that were made.
    """

    alive: bool
    connected: bool
    connections: int
    protocol: str
    in_flight: int
    delivered: int
    rejected: int
    denied: int
    busy: int
    refused: int
    lost: int
    strays: int
    faults: int
    denied_topics: tuple[str, ...]
    last_error: str


class Publisher:
    """Sends what the outbox holds, and the last value of each retained topic at every connect.

    What is new goes first: the backlog (earlier epochs, updates) uses at most half of the messages that may be
    in flight, and at most `backlog_hz`. When begins and ends of the current epoch have piled up while the broker
    was away, a new epoch begins once the birth is told, so that these are backlog too. `freshen` gives the
    payload to send of a message whose times were made while the clock was not synchronised. `presence` is told
    first, and last. What becomes of a message that is not taken: see UnderWay.
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
        self._freshen, self._clock = freshen, clock
        self.beat = Beat(DISK_S)  # to take, to confirm and to begin an epoch is to read and write the outbox
        rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._under_way = UnderWay(outbox, hold_s=hold_s, rng=rng)
        self._retained = Retained(hold_s)
        self._pace = Pace(backlog_hz, burst=_BURST)
        self._rest = Backoff(first_s=0.5, max_s=10.0, rng=rng)
        self._greeting = self._more = False
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
            for message in self._retained.take(self._transport.room, now_s):
                self._transport.send(message)
            self._send_rows(now_s)
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
        waits = [_POLL_S, self._under_way.held.wait_s(now_s)]
        if self._more and (pace_s := self._pace.wait_s(_BURST // 2)) > 0:
            waits.append(pace_s)
        return max(0.0, min(waits))

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

    def _send_rows(self, now_s: float) -> None:
        for message in self._under_way.due(now_s):
            if self._transport.room:
                self._send(message, now_s)
        denied = self._under_way.held.topics
        if room := self._transport.room:
            for message in self._outbox.take(room, rest=0, except_topics=denied):
                self._send(message, now_s)
        if room := self._room_for_backlog(now_s):
            taken = self._outbox.take(room, rest=room, except_topics=denied)
            self._pace.take(len(taken))
            self._more = len(taken) == room
            for message in taken:
                self._send(message, now_s, backlog=True)

    def _room_for_backlog(self, now_s: float) -> int:
        """Return how many messages of the backlog may go now: none, or enough to be worth a look into the outbox."""
        room = self._transport.room
        share = max(1, (room + len(self._under_way) + self._retained.under_way) // 2)
        free = min(room, share - self._under_way.backlog, self._pace.room(now_s))
        return free if free * 2 >= share else 0

    def _send(self, message: Message, now_s: float, *, backlog: bool = False) -> None:
        self._under_way.add(message, now_s, backlog=backlog)
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

    def _settle(self, report: Report) -> None:
        now_s = self._clock()
        if isinstance(report.key, int):
            self._rest.reset()
            self._under_way.settle(report, now_s)
            if report.outcome is Outcome.DELIVERED:
                self._fault = ""
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
        """Tell that this device goes, and settle what is still answered meanwhile."""
        if self._presence is not None and self._transport.link.connected:
            farewell = Message("farewell", self._presence.topic, self._presence.will, retain=True)
            end_s = time.monotonic() + _FAREWELL_S
            sent = told = False
            while not told and self._transport.link.connected and (left_s := end_s - time.monotonic()) > 0:
                if not sent and self._transport.room:
                    self._transport.send(farewell)
                    sent = True
                for report in self._transport.poll(left_s):
                    if report.key == farewell.key:
                        told, report = True, replace(report, key=farewell.topic)
                    self._settle(report)
        self._transport.close()
