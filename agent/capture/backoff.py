"""How long to wait before the next attempt: exponential, full jitter, reset by a stable time only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Backoff:
    """Waits drawn evenly from 0 to a ceiling that doubles from `first_s` up to `max_s`.

    Full jitter spreads a fleet that lost the same switch (M. Brooker, "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015). `uniform` is `random.Random().uniform` or a stand-in. A connection must have
    lasted `stable_s` to bring the ceiling back to `first_s`: one that is accepted and lost at once does not.
    """

    def __init__(
        self, *, first_s: float, max_s: float, stable_s: float, uniform: Callable[[float, float], float]
    ) -> None:
        self._first_s, self._max_s, self._stable_s = first_s, max_s, stable_s
        self._uniform = uniform
        self._ceiling_s = first_s

    def next_s(self, *, at_least_s: float = 0.0) -> float:
        """Return the wait before the next attempt; `at_least_s` comes on top of the jitter."""
        wait_s = at_least_s + self._uniform(0.0, self._ceiling_s)
        self._ceiling_s = min(self._ceiling_s * 2, self._max_s)
        return wait_s

    def lasted(self, duration_s: float) -> None:
        """Tell how long a connection was good for."""
        if duration_s >= self._stable_s:
            self._ceiling_s = self._first_s
