"""What the main thread waits for: signals come as their names, the rest as one of these."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.camera import Ended
from agent.errors import TryAgain

if TYPE_CHECKING:
    from collections.abc import Callable

_TURN_S = 600.0
"""Longest wait for the main thread: it may be opening a model whose engine has to be built first."""


@dataclass(frozen=True, slots=True)
class Failed:
    """An engine ended with `fault`: nothing goes on without it."""

    fault: BaseException


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """The models that were being opened are there, or will not be."""

    fault: BaseException | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Another thread wants `do` done where cameras change; `answer` gets what it returns or raises."""

    do: Callable[[], Any]
    answer: Future[Any]

    def serve(self) -> object:
        """Do it; return what came of it, None where it raised."""
        if not self.answer.set_running_or_notify_cancel():
            return None
        try:
            done = self.do()
        except BaseException as fault:  # noqa: BLE001  it is raised where it was asked for
            self.answer.set_exception(fault)
            return None
        self.answer.set_result(done)
        return done

    def refuse(self) -> None:
        """Have whoever asked try again later."""
        if self.answer.set_running_or_notify_cancel():
            self.answer.set_exception(_ending())


Happening = str | Ended | Failed | Loaded | Asked
Happenings = queue.SimpleQueue[Happening]


class MainThread:
    """Has the main thread do what other threads ask for, until it does no more of that."""

    def __init__(self, happenings: Happenings) -> None:
        self._happenings = happenings
        self._asking, self._over = threading.Lock(), False

    def do(self, do: Callable[[], Any]) -> Any:
        """Return what `do` gives there, or raise that; for other threads. Raises TryAgain when it has no time."""
        answer: Future[Any] = Future()
        with self._asking:
            if self._over:
                raise _ending()
            self._happenings.put(Asked(do, answer))
        try:
            return answer.result(_TURN_S)
        except NotInTime:
            answer.cancel()
            raise TryAgain("the agent is busy", seen=f"for {_TURN_S:g} s", fix="ask again later") from None

    def close(self) -> None:
        """Refuse what was asked for and not done; leave what else has happened to whoever comes next."""
        with self._asking:
            self._over = True
        left: list[Happening] = []
        while not self._happenings.empty():
            what = self._happenings.get()
            if isinstance(what, Asked):
                what.refuse()
            else:
                left.append(what)
        for what in left:
            self._happenings.put(what)


def _ending() -> TryAgain:
    return TryAgain("the agent ends, or starts anew", fix="ask again in a moment")
