"""The sampling budget: fewer frames before the device is slowed for heat or power, more again when it is well. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.hardware import Throttling

FACTORS = (1.0, 0.7, 0.5, 0.35, 0.25)
"""The shares of its rate that sampling may use; each step is about the one before divided by the square root of 2."""
NEAR_C, COOL_C = 3.0, 8.0
"""So near to its limit a zone is too hot, and so far from it cool enough for more."""
LOWER_S = 10.0
"""Heat takes about so long to show what a step down has done."""
RAISE_S, MAX_RAISE_S = 60.0, 960.0
"""How long all must be well before a step up: the first, and after steps up that did not last."""
LASTING_S = 600.0
"""A step up that lasted so long was right: the next trouble is another one. And what was not too much for so long,
if never cool, allows another step up."""
_WORDS = {
    0.7: "70 % of the rate",
    0.5: "half the rate",
    0.35: "a third of the rate",
    0.25: "a quarter of the rate",
}


@dataclass(frozen=True, slots=True)
class Budget:
    """The share of its rate that sampling may use, and why it is not all: one line, "" for all.

    It changes only when the share does.
    """

    factor: float = 1.0
    reason: str = ""


class Throttle:
    """Turns looks at the device, given about once a second, into a budget.

    Down at once, then every 10 s while it is too much; up after a minute in which all was well, or 10 in which
    nothing was too much. A step up that did not last doubles that minute, to 16 at most, so that a device which
    can't do more is not tried again and again. No readings whatever make more than 50 steps an hour. Time that
    goes back stands still.
    """

    def __init__(self) -> None:
        self.budget = Budget()
        self._level = 0
        self._now_s = float("-inf")
        self._lowered_s = self._raised_s = float("-inf")
        self._calm_s: float | None = None
        self._well_s: float | None = None
        self._wait_s = RAISE_S
        self._risen = False

    def step(self, reading: Throttling, now_s: float) -> Budget:
        """Return the budget after this look at `now_s`."""
        now_s = self._now_s = max(now_s, self._now_s)
        trouble = trouble_of(reading)
        if trouble:
            self._calm_s = self._well_s = None
            if self._level < len(FACTORS) - 1 and now_s - self._lowered_s >= LOWER_S:
                self._lower(trouble, now_s)
        else:
            self._calm_s = now_s if self._calm_s is None else self._calm_s
            self._well_s = None if not _cool(reading) else now_s if self._well_s is None else self._well_s
            well = self._well_s is not None and now_s - self._well_s >= self._wait_s
            if self._level and (well or now_s - self._calm_s >= max(self._wait_s, LASTING_S)):
                self._raise(now_s)
        return self.budget

    def _lower(self, trouble: str, now_s: float) -> None:
        if self._risen:
            lasted = now_s - self._raised_s >= LASTING_S
            self._wait_s = RAISE_S if lasted else min(2 * self._wait_s, MAX_RAISE_S)
        self._risen, self._lowered_s = False, now_s
        self._set(self._level + 1, trouble)

    def _raise(self, now_s: float) -> None:
        self._risen, self._raised_s = True, now_s
        self._calm_s = self._well_s = now_s
        self._set(self._level - 1, self.budget.reason.rpartition(": ")[0])

    def _set(self, level: int, trouble: str) -> None:
        self._level, factor = level, FACTORS[level]
        self.budget = Budget(factor, f"{trouble}: {_WORDS[factor]}" if level else "")


def trouble_of(reading: Throttling) -> str:
    """Return what is too much now, in words with the number seen; "" for nothing."""
    if reading.under_voltage:
        return "under-voltage, use a stronger power supply"
    if reading.nearest is not None:
        name, temperature_c, limit_c = reading.nearest
        if temperature_c > limit_c - NEAR_C:
            return f"too hot ({name} {temperature_c:.1f} C, slowed from {limit_c:.0f} C)"
    if reading.slowed:
        return f"slowed down ({', '.join(reading.slowed)})"
    return ""


def _cool(reading: Throttling) -> bool:
    return reading.nearest is None or reading.nearest[1] <= reading.nearest[2] - COOL_C
