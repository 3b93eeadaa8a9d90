"""At most so many a second, with small bursts: a token bucket."""

from __future__ import annotations


class Pace:
    """Lets `rate_hz` through, in bursts of up to `burst`. No clock of its own: `now_s` only ever grows."""

    def __init__(self, rate_hz: float, *, burst: int) -> None:
        self._rate_hz, self._burst = rate_hz, burst
        self._tokens, self._at_s = float(burst), 0.0

    def room(self, now_s: float) -> int:
        """Return how many may go now."""
        self._tokens = min(float(self._burst), self._tokens + max(0.0, now_s - self._at_s) * self._rate_hz)
        self._at_s = now_s
        return int(self._tokens)

    def take(self, count: int) -> None:
        """Note that `count` went."""
        self._tokens -= count

    def wait_s(self, count: int) -> float:
        """Return how long after the last `room` there is room for `count`, at most the burst."""
        return max(0.0, (min(count, self._burst) - self._tokens) / self._rate_hz)
