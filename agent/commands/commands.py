"""Takes commands from the broker, has them done one at a time, and answers."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol

from agent import clock
from agent.commands.answers import Answers, Route, send
from agent.commands.judging import Rejected, answer_topic, judge
from agent.commands.memory import Memory
from agent.commands.offered import Offered
from agent.errors import AgentError
from agent.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Self

    from agent.outlet import Outlet
    from agent.transport import Received
    from agent.wire import Command

log = logging.getLogger(__name__)

RATE_HZ, BURST = 1.0, 10
"""So many commands are looked at: what comes faster is rejected."""
_WAITING, _AT_WORK = 32, 8
_AT_ONCE = frozenset({"status"})
"""Done beside what is at work."""
_LONG = frozenset({"model.install"})
"""What may take hours: the others do not wait for it."""
_END_S = 2.0
_LOOK_S = 30.0


class Doer(Protocol):
    """Who does commands: see agent.operations."""

    def do(
        self, name: str, args: Mapping[str, object], progress: Callable[[Mapping[str, object]], None]
    ) -> object:
        """Do `name`; return what JSON can hold. Raises AgentError."""
        ...


class _Work(queue.Queue["tuple[Command, Answers] | None"]):
    """Commands that wait, the first first; None to look whether it is over."""


class Commands:
    """Listens while the `with` block runs: one thread judges what comes, another does it, one at a time.

    Models are installed by a third. What has waited beyond its `expires` is not done.

    `names` are the operations of `operations` that may be asked for. A message that finds the queue full is counted
    and not answered; nor is more than one a second of those that come too fast.
    """

    def __init__(
        self, operations: Doer, outlet: Outlet, *, names: frozenset[str], reserved: str = "homeassistant"
    ) -> None:
        self._operations, self._outlet, self._names, self._reserved = operations, outlet, names, reserved
        self._publisher, self._topics = outlet.publisher, outlet.topics
        self._memory, self._counts, self._counting = Memory(), Counter[str](), threading.Lock()
        self._pace, self._refusals = Pace(RATE_HZ, burst=BURST), Pace(RATE_HZ, burst=1)
        self._waiting: queue.Queue[Received | None] = queue.Queue(_WAITING)
        self._work, self._long_work = _Work(_AT_WORK), _Work(_AT_WORK)
        self._offered = Offered(outlet, self._status)
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._judge_all, name="commands", daemon=True),
            threading.Thread(target=self._do_all, args=(self._work,), name="command", daemon=True),
            threading.Thread(target=self._do_all, args=(self._long_work,), name="long command", daemon=True),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self._publisher.listen(self._topics.command, self._take)
        self._publisher.listen(self._topics.command_update, self._take)
        self._publisher.listen(self._topics.model_available, self._offered.take, kept=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        with suppress(queue.Full):  # whoever has so much to take looks at `_stopping` next
            self._waiting.put_nowait(None)
        for work in (self._work, self._long_work):
            with suppress(queue.Full):
                work.put_nowait(None)
        for thread in self._threads:
            thread.join(_END_S)

    def counts(self) -> dict[str, int]:
        """Return how many were received, accepted, done, failed, and rejected_<reason>; from any thread."""
        with self._counting:
            return dict(self._counts)

    def _count(self, *names: str) -> None:
        with self._counting:
            self._counts.update(names)

    def _take(self, received: Received) -> None:
        """Keep what came for the thread that judges; on the publisher's thread."""
        self._count("received")
        try:
            self._waiting.put_nowait(received)
        except queue.Full:
            self._count("rejected_overflow")

    # -- the thread that judges --

    def _judge_all(self) -> None:
        self._guard(self._offered.look)
        while not self._stopping.is_set():
            try:
                received = self._waiting.get(timeout=_LOOK_S)
            except queue.Empty:
                self._guard(self._offered.look)
                continue
            if received is not None:
                self._guard(partial(self._judge, received))

    def _judge(self, received: Received) -> None:
        now_s, base = time.monotonic(), clock.time_base()
        topic = answer_topic(received, base=self._topics.base, reserved=self._reserved)
        route = Route(topic or self._topics.command_result, received.correlation)
        if not self._pace.room(now_s):
            if self._refusals.room(now_s):
                self._refusals.take(1)
                self._reject(Rejected("too_many", f"{BURST} at once, then {RATE_HZ:g} a second"), route)
            else:
                self._count("rejected_too_many")
            return
        self._pace.take(1)
        if topic is None:
            self._reject(Rejected("response_topic", "answers can't go to that response topic"), route)
            return
        if received.topic == self._topics.command_update:
            judged: Command | Rejected = self._offered.command(received, base.utc_offset_s + now_s)
        else:
            judged = judge(
                received,
                names=self._names,
                seen=self._memory,
                utc_s=base.utc_offset_s + now_s,
                synced=base.synced,
            )
        if isinstance(judged, Rejected):
            self._reject(judged, route)
        else:
            self._accept(judged, route, synced=base.synced)

    def _reject(self, rejected: Rejected, route: Route) -> None:
        self._count(f"rejected_{rejected.reason}")
        log.info("command %s %s is rejected: %s", rejected.op, rejected.id, rejected.why)
        if rejected.reason == "replayed" and (answer := self._memory.get(rejected.id)) is not None:
            send(self._publisher, route, answer)
            return
        answers = Answers(self._publisher, route, None, command_id=rejected.id, op=rejected.op)
        answers.tell("rejected", reason=f"{rejected.reason}: {rejected.why}")

    def _accept(self, command: Command, route: Route, *, synced: bool) -> None:
        answers = Answers(self._publisher, route, self._memory, command_id=command.id, op=command.op)
        at_once = command.op in _AT_ONCE
        work = self._long_work if command.op in _LONG else self._work
        if not at_once and work.full():
            why = f"{_AT_WORK} commands wait: ask again later"
            self._reject(Rejected("busy", why, command.id, command.op), route)
            return
        self._count("accepted")
        reason = "" if synced else "this device's clock is not synchronised: expires was not judged"
        answers.tell("accepted", reason=reason)
        if at_once:
            self._do(command, answers)
        else:
            work.put((command, answers))

    # -- the threads that do --

    def _do_all(self, work: _Work) -> None:
        while not self._stopping.is_set():
            if (item := work.get()) is not None:
                self._guard(partial(self._do_waiting, *item))

    def _do_waiting(self, command: Command, answers: Answers) -> None:
        base = clock.time_base()
        if base.synced and command.expires.timestamp() < base.utc_offset_s + time.monotonic():
            self._fail(command, answers, "expired while it waited for the commands before it")
        else:
            self._do(command, answers)

    def _do(self, command: Command, answers: Answers) -> None:
        if command.op not in _AT_ONCE:
            log.warning("command %s %s: %s", command.op, command.id, command.args)

        def progress(told: Mapping[str, object]) -> None:
            answers.progress(told)
            if command.op == "model.install":
                self._offered.progress(told)

        try:
            result = self._operations.do(command.op, command.args, progress)
        except AgentError as fault:
            self._fail(command, answers, str(fault))
        except Exception as fault:
            log.debug("command %s: fault", command.op, exc_info=fault)
            self._fail(command, answers, f"internal error: {type(fault).__name__}")
        else:
            self._count("done")
            answers.tell("done", result=result)
        if command.op.startswith("model."):
            self._offered.settled()

    def _fail(self, command: Command, answers: Answers, why: str) -> None:
        self._count("failed")
        log.error("command %s %s: %s", command.op, command.id, why)
        answers.tell("failed", reason=why)

    def _status(self) -> object:
        return self._operations.do("status", {}, lambda _: None)

    def _guard(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as fault:
            log.error("commands: %s: %s; they go on", type(fault).__name__, fault)
            log.debug("commands: fault", exc_info=fault)
