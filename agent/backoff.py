"""How long to wait before the next try of anything that is away: exponential, with jitter."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


LOGIN_WAIT_S = 30.0
"""At least this between two attempts with a login that was refused: cameras and brokers lock accounts."""


class Backoff:
    """Waits drawn evenly from `least` (a share, 0 to 1) of a bound to that bound, from `first_s` doubling to `max_s`.

    Full jitter (`least` 0) spreads a fleet that lost the same switch or broker (M. Brooker, "Exponential Backoff And
    Jitter", https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). When to begin anew is
    the caller's: a connection that is accepted and lost at once is no reason.
    """

    def __init__(self, *, first_s: float, max_s: float, rng: Random, least: float = 0.0) -> None:
        self._first_s, self._max_s, self._rng, self._least = first_s, max_s, rng, least
        self._failures = 0

    def next_s(self, *, at_least_s: float = 0.0) -> float:
        """Return the wait after one more failure; `at_least_s` comes on top of the jitter."""
        bound_s = min(self._max_s, self._first_s * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return at_least_s + self._rng.uniform(self._least * bound_s, bound_s)

    def reset(self) -> None:
        """Begin anew: it works."""
        self._failures = 0
