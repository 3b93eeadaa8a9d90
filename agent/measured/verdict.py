"""What follows from the measurements: which choice to run, and in words why. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.backends.choice import Choice
    from agent.measured.record import Measured, Tuning

AS_FAST = 1.05
"""Up to so many times the fastest median counts as equal: no two runs on a live device come closer."""
_FLOAT = ("fp16", "fp32")
_ALIKE = 0.05


def choose(measured: Iterable[Measured]) -> Measured | None:
    """Return the one to run: the fastest for a picture; of those as fast, the fewest threads, then the least memory.

    One with an objection is never taken. None where nothing is left.
    """
    timed = [(each.each_ms, each) for each in measured if each.each_ms is not None and not each.objection]
    limit_ms = min((each_ms for each_ms, _ in timed), default=0.0) * AS_FAST
    equal = [
        ((each.choice.threads, each.peak_rss_mb or 0.0, each_ms), each)
        for each_ms, each in timed
        if each_ms <= limit_ms
    ]
    return min(equal, key=lambda row: row[0])[1] if equal else None


def factor(best: Measured, other: Measured) -> float | None:
    """Return how many times as long a picture takes with `other`."""
    return other.each_ms / best.each_ms if other.each_ms is not None and best.each_ms else None


def beside(best: Measured, measured: Iterable[Measured]) -> list[tuple[str, float]]:
    """Return what differs from `best` in one thing, precision, delegate or backend, with its smallest `factor`.

    The threads are the same, but beside TensorRT, which has none: there the best of another backend is told.
    """
    found: dict[str, float] = {}
    for each in measured:
        name, times = _difference(best.choice, each.choice), factor(best, each)
        if name is not None and times is not None:
            found[name] = min(times, found.get(name, times))
    return list(found.items())


def told(tuning: Tuning, best: Measured) -> str:
    """Return in one line when `tuning` was made, and how `best` does against what differs in one thing."""
    first = f"tuned on {tuning.time[:10]}: {best.choice} {best.each_ms:.1f} ms"
    return "; ".join([first, *(f"{name} {_slower(times)}" for name, times in beside(best, tuning.measured))])


def slower_int8(best: Measured, measured: Iterable[Measured]) -> str | None:
    """Return a warning if on the backend of `best` INT8 takes longer than float, else None."""
    backend = best.choice.backend
    mine = [each for each in measured if each.choice.backend == backend and each.choice.delegate]
    int8, real = _fastest(mine, ("int8",)), _fastest(mine, _FLOAT)
    times = factor(real, int8) if int8 and real else None
    if int8 is None or real is None or times is None or times <= AS_FAST:
        return None
    return (
        f"INT8 is {times:.1f}x slower than {real.choice.precision} on this device"
        f" ({backend}: {int8.p50_ms:.1f} ms, {real.p50_ms:.1f} ms)"
    )


def _fastest(measured: Iterable[Measured], precisions: Sequence[str]) -> Measured | None:
    timed = [
        (each.p50_ms, each)
        for each in measured
        if each.p50_ms is not None and each.choice.precision in precisions
    ]
    return min(timed, key=lambda row: row[0])[1] if timed else None


def _difference(mine: Choice, other: Choice) -> str | None:
    """Return the one thing in which `other` differs, None for none and for several."""
    if "tensorrt" in {mine.backend, other.backend} and mine.backend != other.backend:
        return f"{other.backend} {other.precision}" if other.delegate else None
    differences = {
        other.precision: other.precision != mine.precision,
        "no delegate" if mine.delegate else "with delegate": other.delegate != mine.delegate,
        other.backend: other.backend != mine.backend,
    }
    names = [name for name, differs in differences.items() if differs]
    return names[0] if len(names) == 1 and other.threads == mine.threads else None


def _slower(times: float) -> str:
    if abs(times - 1) <= _ALIKE:
        return "as fast"
    return f"{times:.1f}x slower" if times > 1 else f"{1 / times:.1f}x faster"
