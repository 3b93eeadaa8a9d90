"""Whether a source is connected, and the way back when a live one is lost: the same for streams and devices."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from agent.backoff import LOGIN_WAIT_S
from agent.errors import AgentError, NotPermitted

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.backoff import Backoff
    from agent.capture import SourceStats

Connection = TypeVar("Connection")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LinkState:
    """What a source does: waits for its first answer, is up, or tries again after what `detail` says.

    "silent": the connection stood and nothing of use came; "refused": the login; "lost": anything else.
    """

    kind: Literal["connecting", "up", "silent", "refused", "lost"] = "connecting"
    detail: str = ""


CONNECTING, UP = LinkState(), LinkState("up")


def away(fault: Exception, *, silent: bool = False) -> LinkState:
    """Return the state of a source that met `fault`."""
    detail = fault.what if isinstance(fault, AgentError) else type(fault).__name__
    if silent:
        return LinkState("silent", detail)
    return LinkState("refused" if isinstance(fault, NotPermitted) else "lost", detail)


class Stop(Protocol):
    """Of `threading.Event` what is needed here."""

    def is_set(self) -> bool:
        """Tell whether the source is closed."""
        ...

    def wait(self, timeout: float) -> bool:
        """Wait until it is closed, at most so long; tell whether it is."""
        ...


class Link:
    """Keeps `stats.link`, and connects again. Used by the thread that reads, alone.

    A connection that lasted `lasting_s` makes the waits begin small again; one that is lost at once does not.
    """

    def __init__(
        self,
        *,
        camera: str,
        stats: SourceStats,
        backoff: Backoff,
        lasting_s: float,
        stop: Stop,
        now: Callable[[], float],
    ) -> None:
        self._camera, self._stats, self._backoff = camera, stats, backoff
        self._lasting_s, self._stop, self._now = lasting_s, stop, now
        self._up_s = now()

    def up(self) -> None:
        """Note that it is connected."""
        self._up_s = self._now()
        self._stats.link = UP

    def regain(
        self, connect: Callable[[], Connection], fault: AgentError, *, silent: bool = False
    ) -> Connection | None:
        """Try until connected; None once it is closed. One line in the log when lost, for a new reason, when back."""
        if self._now() - self._up_s >= self._lasting_s:
            self._backoff.reset()
        self._stats.losses += 1
        self._tell("lost", fault, silent=silent)
        attempts, wait_s, told = 0, self._backoff.next_s(), str(fault)
        while not self._stop.wait(wait_s):
            attempts += 1
            try:
                connection = connect()
            except AgentError as error:
                if str(error) != told:
                    told = str(error)
                    self._tell("still away", error)
                refused = isinstance(error, NotPermitted)
                wait_s = self._backoff.next_s(at_least_s=LOGIN_WAIT_S if refused else 0.0)
            else:
                self._stats.reconnects += 1
                log.warning("camera %s: back, attempt %d", self._camera, attempts)
                self.up()
                return connection
        return None

    def _tell(self, what: str, fault: AgentError, *, silent: bool = False) -> None:
        self._stats.link = away(fault, silent=silent)
        if not self._stop.is_set():
            log.warning("camera %s: %s: %s", self._camera, what, fault)
