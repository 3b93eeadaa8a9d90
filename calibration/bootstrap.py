"""How far a figure may be off by the choice of frames: the bias-corrected bootstrap (Efron 1981).

A frame drawn twice makes the boxes of a rare class agree with each other, so resampled average precision is too
high in the mean: plain percentiles would lie off the value.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ROUNDS = 500
_SEED = 6
_TAILS = (0.025, 0.975)
_NORMAL = NormalDist()


class Figure(msgspec.Struct, frozen=True):
    """A measured value, and where it lies with 95 % confidence."""

    value: float
    low: float
    high: float


def bootstrap(
    statistic: Callable[[NDArray[np.float64]], float], frames: int, *, rounds: int = ROUNDS
) -> tuple[float, float]:
    """Return the 95 % interval of `statistic` over resampled frames, nan where it says nothing.

    `statistic` takes how often each frame was drawn, (frames,), and may return nan: such a round is left out.
    The same frames give the same interval every time. Frames of one clip resemble each other, so for a few
    clips with many frames each the interval is narrower than the truth.
    """
    numbers = np.random.default_rng(_SEED)
    draws = numbers.multinomial(frames, np.full(frames, 1 / frames), size=rounds) if frames else ()
    values = np.array([statistic(draw.astype(np.float64)) for draw in draws])
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, _corrected(values, statistic(np.ones(frames))))
    return float(low), float(high)


def _corrected(values: NDArray[np.float64], value: float) -> list[float]:
    """Return the shares of the resampled `values` to cut at, moved by how far their middle is from `value`."""
    below = float(((values < value).sum() + 0.5 * (values == value).sum()) / len(values))
    bias = _NORMAL.inv_cdf(min(max(below, 0.5 / len(values)), 1 - 0.5 / len(values)))
    return [_NORMAL.cdf(2 * bias + _NORMAL.inv_cdf(tail)) for tail in _TAILS]


def figure(statistic: Callable[[NDArray[np.float64]], float], frames: int) -> Figure | None:
    """Return `statistic` of all frames with its interval; None when it is nan."""
    value = statistic(np.ones(frames))
    if np.isnan(value):
        return None
    return Figure(float(value), *bootstrap(statistic, frames))


def share(parts: NDArray[np.float64], wholes: NDArray[np.float64]) -> Figure | None:
    """Return sum(parts) / sum(wholes), one of each a frame, with its interval; None for a whole of nothing."""

    def ratio(weight: NDArray[np.float64]) -> float:
        whole = float(weight @ wholes)
        return float(weight @ parts) / whole if whole else float("nan")

    return figure(ratio, len(parts))
