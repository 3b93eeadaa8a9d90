"""When to try a broker again: ever more rarely, until a connection has proved its worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.backoff import Backoff

if TYPE_CHECKING:
    from random import Random

    from agent.mqtt.options import MqttOptions

_LEAST = 0.5  # at `backoff_max_s` of 60 s two tries are at least 30 s apart
_SPREAD = 5.0  # in waits: a fleet comes back to a broker that was restarted over so long, not all at once
_SHORT = 3  # so many short connections in a row may be those of two clients with one name


class Reconnecting:
    """Knows how the connections went, and says how long to wait for the next. No clock of its own.

    Waits begin anew only after a connection that lasted `stable_s` or carried a whole window of confirmed
    messages: a broker that accepts, takes one and drops is not worth a try a second. A login that was refused
    waits `login_retry_s` more, so that nobody is locked out and at most 12 tries fall into ten minutes. The first
    wait after a connection that proved its worth is drawn from half to five times `backoff_first_s`.
    """

    def __init__(self, options: MqttOptions, *, rng: Random) -> None:
        self._options, self._rng = options, rng
        self._backoff = Backoff(
            first_s=options.backoff_first_s, max_s=options.backoff_max_s, rng=rng, least=_LEAST
        )
        self._since_s: float | None = None
        self._confirmed = self._short = 0
        self._denied = self._careful = False

    def stands(self, now_s: float) -> None:
        """Note that a connection was accepted."""
        self._since_s, self._confirmed, self._denied = now_s, 0, False

    def confirmed(self) -> None:
        """Note that the broker took a message."""
        self._confirmed += 1

    def denied(self) -> None:
        """Note that the broker denies a message: some end the connection for that, which tells of no other client."""
        self._denied = True

    def lost(self, now_s: float, *, contested: bool = False, login_refused: bool = False) -> float:
        """Note that the connection is gone, or did not come about; return how long to wait, in seconds.

        One that is `contested` counts as failed, however long it stood: two that take it from each other rest.
        """
        if self._since_s is not None:
            stable = self._stable(now_s)
            worthy = not contested and (stable or self._confirmed >= self._options.max_in_flight)
            self._careful = not stable
            self._short = 0 if stable or self._denied else self._short + 1
            self._since_s = None
            if worthy:
                self._backoff.reset()
                return self._options.backoff_first_s * self._rng.uniform(_LEAST, _SPREAD)
        return self._backoff.next_s(at_least_s=self._options.login_retry_s if login_refused else 0.0)

    @property
    def careful(self) -> bool:
        """Whether to send one message at a time: the connection before was short, and this one has carried none yet.

        A broker that ends the connection at a message that it denies leaves those behind it unread, and then the
        reset of the connection discards its answer on the way to us.
        """
        return self._careful and not self._confirmed

    def looks_shared(self, now_s: float) -> bool:
        """Return whether the connection that is lost now is one more of several short ones in a row."""
        return self._since_s is not None and not self._stable(now_s) and self._short + 1 >= _SHORT

    def _stable(self, now_s: float) -> bool:
        return self._since_s is not None and now_s - self._since_s >= self._options.stable_s
