"""The publisher: one thread that takes messages from the outbox, sends them, confirms what arrived."""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.backoff import Backoff
from agent.transport import Message, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.outbox import Outbox
    from agent.transport import Presence, Report, Transport

log = logging.getLogger(__name__)

_POLL_S = 1.0
_FAREWELL_S = 1.0
_STUCK_S = 30.0
_REFUSALS = 5
_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class PublisherState:
    """How the sending stands. `alive`: the loop came round lately; waiting for a dead broker is alive."""

    alive: bool
    connected: bool
    protocol: str
    in_flight: int
    delivered: int
    rejected: int
    faults: int
    denied_topics: tuple[str, ...]
    last_error: str


@dataclass(slots=True)
class _Denied:
    """A topic that the broker does not let us write: one message of it is tried again now and then."""

    probe: Message
    retry_s: float


class Publisher:
    """Sends what the outbox holds, and the last value of each retained topic at every connect.

    A message that the other side refuses for good is discarded (a gap); a topic that it denies is left alone
    but for one try every `hold_s`; over a quota all sending rests. One refused five times for no known reason
    is given up too, that it may not block those behind it for ever. `presence` is told first, and last.
    """

    def __init__(
        self,
        outbox: Outbox,
        transport: Transport,
        *,
        presence: Presence | None = None,
        hold_s: float = 60.0,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox, self._transport, self._presence = outbox, transport, presence
        self._hold_s, self._clock = hold_s, clock
        rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._quota = Backoff(first_s=1.0, max_s=60.0, rng=rng)
        self._rest = Backoff(first_s=0.5, max_s=10.0, rng=rng)
        self._in_flight: dict[int, Message] = {}
        self._denied: dict[str, _Denied] = {}
        self._refusals: dict[int, int] = {}
        self._retained: dict[str, bytes] = {}
        self._unsent: dict[str, None] = {}
        self._telling: dict[str, bytes] = {}
        self._session, self._resume_s, self._round_s = 0, 0.0, clock()
        self._delivered = self._rejected = self._faults = 0
        self._fault = ""
        self._lock = threading.Lock()
        self._idle = threading.Condition()
        self._asked = self._answered = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        if presence is not None:
            self.retain(presence.topic, presence.birth)
        outbox.on_commit(transport.wake)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def retain(self, topic: str, payload: bytes) -> None:
        """Have `payload` as the retained message of `topic`: the last value wins, told at every connect."""
        with self._lock:
            self._retained[topic] = payload
            self._unsent[topic] = None
        self._transport.wake()

    def drain(self, timeout_s: float) -> bool:
        """Wait until all that was committed is confirmed; return False when `timeout_s` was not enough."""
        end_s = time.monotonic() + timeout_s
        while (left_s := end_s - time.monotonic()) > 0 and self._thread.is_alive():
            if self._ask_idle(left_s):
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
        link = self._transport.link
        return PublisherState(
            alive=self._thread.is_alive() and self._clock() - self._round_s < _STUCK_S,
            connected=link.connected,
            protocol=link.protocol,
            in_flight=len(self._in_flight),
            delivered=self._delivered,
            rejected=self._rejected,
            faults=self._faults,
            denied_topics=tuple(self._denied),
            last_error=self._fault or link.error,
        )

    # -- the thread --

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._guard(self._round)
        self._guard(self._say_farewell)

    def _guard(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as fault:  # noqa: BLE001 - the thread's outermost level: it never dies silently
            self._recover(fault)

    def _round(self) -> None:
        """Send what there is room for, and settle what came back."""
        self._round_s = self._clock()
        if self._clock() >= self._resume_s:
            self._tell_retained()
            self._send_rows()
        for report in self._transport.poll(self._poll_s()):
            self._settle(report)
        self._answer_idle()

    def _recover(self, fault: Exception) -> None:
        """Begin anew with nothing under way: what was, is sent again."""
        self._faults += 1
        self._fault = f"{type(fault).__name__}: {fault}"
        log.error("publisher: %s; it goes on", self._fault)
        log.debug("publisher: fault", exc_info=fault)
        self._transport.reset()
        self._in_flight.clear()
        self._denied.clear()
        self._telling.clear()
        self._session = 0
        self._outbox.release_all()
        self._stopping.wait(self._rest.next_s())

    def _poll_s(self) -> float:
        waits = [_POLL_S, *(d.retry_s - self._clock() for d in self._denied.values())]
        if self._resume_s > self._clock():
            waits.append(self._resume_s - self._clock())
        return max(0.0, min(waits))

    def _tell_retained(self) -> None:
        """Send the retained values that are new; all of them on a new connection, presence first."""
        if self._transport.link.session != self._session:
            self._session = self._transport.link.session
            with self._lock:
                self._unsent = dict.fromkeys(self._retained)
        with self._lock:
            ready = [topic for topic in self._unsent if topic not in self._telling]
            messages = [
                Message(topic, topic, self._retained[topic], retain=True)
                for topic in ready[: self._transport.room]
            ]
            for message in messages:
                del self._unsent[message.topic]
                self._telling[message.topic] = message.payload
        for message in messages:
            self._transport.send(message)

    def _send_rows(self) -> None:
        for denied in self._denied.values():
            due = self._clock() >= denied.retry_s and self._transport.room
            if due and denied.probe.key not in self._in_flight:
                self._send(denied.probe)
        room = self._transport.room
        if room:
            for message in self._outbox.take(room, except_topics=frozenset(self._denied)):
                self._send(message)

    def _send(self, message: Message) -> None:
        self._in_flight[int(message.key)] = message
        self._transport.send(message)

    # -- what came back --

    def _settle(self, report: Report) -> None:
        if isinstance(report.key, str):
            self._settle_retained(report.key, report)
            return
        message = self._in_flight.pop(report.key, None)
        if message is None:
            return
        self._rest.reset()
        if report.outcome is Outcome.DELIVERED:
            self._arrived(message)
        elif report.outcome is Outcome.REJECTED:
            self._reject(message, report.detail)
        elif report.outcome is Outcome.DENIED:
            self._hold(message, report.detail)
        elif report.outcome is Outcome.REFUSED and self._refused_too_often(message):
            self._reject(message, f"{report.detail}, {_REFUSALS} times")
        else:
            self._send_again(message)
            if report.outcome in {Outcome.BUSY, Outcome.REFUSED}:
                self._pause(report.detail)

    def _refused_too_often(self, message: Message) -> bool:
        """Count one more refusal of `message`; the oldest counts of those that never came back are dropped."""
        key = int(message.key)
        self._refusals[key] = self._refusals.get(key, 0) + 1
        if len(self._refusals) > _REMEMBERED:
            del self._refusals[next(iter(self._refusals))]
        return self._refusals.get(key, 0) >= _REFUSALS

    def _arrived(self, message: Message) -> None:
        self._delivered += 1
        self._fault = ""
        self._quota.reset()
        self._refusals.pop(int(message.key), None)
        self._outbox.confirm([int(message.key)])
        self._allow(message)

    def _reject(self, message: Message, detail: str) -> None:
        self._rejected += 1
        self._refusals.pop(int(message.key), None)
        log.error("message on %s will never be taken (%s): given up and reported", message.topic, detail)
        self._outbox.discard([int(message.key)], reason="rejected")
        self._allow(message)

    def _allow(self, message: Message) -> None:
        denied = self._denied.get(message.topic)
        if denied is not None and denied.probe.key == message.key:
            del self._denied[message.topic]
            log.warning("the broker takes messages on %s again", message.topic)

    def _hold(self, message: Message, detail: str) -> None:
        """Keep the first message that was denied to try again with; the others go back to the outbox."""
        denied = self._denied.get(message.topic)
        if denied is None:
            log.error("the broker denies messages on %s (%s): they are kept", message.topic, detail)
            self._denied[message.topic] = _Denied(message, self._clock() + self._hold_s)
        elif denied.probe.key == message.key:
            denied.retry_s = self._clock() + self._hold_s
        else:
            self._outbox.release([int(message.key)])

    def _send_again(self, message: Message) -> None:
        denied = self._denied.get(message.topic)
        if denied is None or denied.probe.key != message.key:
            self._outbox.release([int(message.key)])

    def _pause(self, detail: str) -> None:
        if self._clock() >= self._resume_s:
            wait_s = self._quota.next_s()
            self._resume_s = self._clock() + wait_s
            log.warning("the broker takes no more for now (%s): resting for %.1f s", detail, wait_s)

    def _settle_retained(self, topic: str, report: Report) -> None:
        with self._lock:
            told = self._telling.pop(topic, None)
            again = report.outcome in {Outcome.LOST, Outcome.BUSY} and told is not None
            if again:
                self._unsent[topic] = None
        if report.outcome in {Outcome.DENIED, Outcome.REJECTED, Outcome.REFUSED}:
            log.error("the broker does not take the retained message on %s (%s)", topic, report.detail)
        elif report.outcome is Outcome.BUSY:
            self._pause(report.detail)

    # -- drain and stop --

    def _ask_idle(self, timeout_s: float) -> bool:
        with self._idle:
            self._asked += 1
            asked = self._asked
            self._transport.wake()
            return self._idle.wait_for(lambda: self._answered >= asked, timeout_s)

    def _answer_idle(self) -> None:
        with self._idle:
            asked = self._asked
        if asked == self._answered or self._in_flight or not self._outbox.idle():
            return
        with self._lock:
            if self._unsent or self._telling:
                return
        with self._idle:
            self._answered = asked
            self._idle.notify_all()

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
                    told = told or report.key == "farewell"
                    self._settle(report)
        self._transport.close()
