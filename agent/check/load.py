"""A rough estimate, from what was measured, of what the cameras will ask of engine and processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.check.finding import Finding, ok, warning

if TYPE_CHECKING:
    from collections.abc import Sequence

WHAT = "load (estimate)"
_CROWDED = 0.8


@dataclass(frozen=True, slots=True)
class Demand:
    """One camera: inferences a second that it asks for, what one costs, and its decoder's share of a core.

    `infer_ms` is how long the engine is busy, `cpu_ms` what that costs all cores together.
    """

    asked_hz: float
    infer_ms: float
    cpu_ms: float
    decode_share: float


def estimate(demands: Sequence[Demand], *, cores: int) -> list[Finding]:
    """Return the rows about `demands` on a device with so many `cores`; none without a demand."""
    if not demands:
        return []
    busy = sum(d.asked_hz * d.infer_ms for d in demands) / 1e3
    rate = min(1.0, 1 / busy) if busy else 1.0
    infer = sum(d.asked_hz * d.cpu_ms for d in demands) / 1e3 * rate
    decode = sum(d.decode_share for d in demands)
    text = f"about {infer + decode:.1f} of {cores} cores: inference {infer:.2g}, decoding {decode:.2g}"
    rows = [_crowded(text) if infer + decode > cores * _CROWDED else ok(WHAT, text)]
    if busy > 1:
        asked_hz = sum(d.asked_hz for d in demands)
        lack = f"the engine gives {asked_hz / busy:.3g}/s, the cameras ask {asked_hz:.3g}/s"
        fix = 'sample fewer (mode = "uniform", hz), use a smaller model or more threads'
        rows.append(warning(WHAT, f"{lack}: newest frames win, the rest is dropped", fix=fix))
    return rows


def _crowded(text: str) -> Finding:
    fix = "sample fewer frames, use the cameras' substreams, or a smaller model"
    return warning(WHAT, text, fix=fix)
