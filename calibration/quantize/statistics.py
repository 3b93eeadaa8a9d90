"""What goes through each tensor of a float network: one pass over the pictures, kept for every later question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

BINS = 2048
"""Most bins of a histogram; past them, pairs of bins become one."""
_MEMORY = 0.95
"""Weight of the pictures before in the average of extremes: litert-quantizer's."""
_MOST_VALUES = 1 << 16
_STRIDE_PRIMES = (1, 3, 7, 13, 29, 61, 127, 251, 509, 1021)
"""Large tensors are looked at every so many values: primes, so that every channel is seen."""


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How often a tensor had which value: bin i counts first + i to first + i + 1, times `width`.

    `low` and `high` are the exact extremes of every value, those that were not counted too; `usual` are the
    extremes of each picture, averaged as litert-quantizer does by itself.
    """

    low: float
    high: float
    width: float
    first: int
    counts: NDArray[np.int64]
    usual: tuple[float, float]

    @property
    def centres(self) -> NDArray[np.float64]:
        """The middle of each bin, within the extremes."""
        middle = (np.arange(len(self.counts)) + self.first + 0.5) * self.width
        return np.clip(middle, self.low, self.high)


def histogram_of(values: NDArray[np.float32]) -> Histogram:
    """Count `values`, finite ones; of a large tensor a part, evenly picked, and its two extremes."""
    flat = values.ravel()
    low, high = float(flat.min()), float(flat.max())
    step = next((prime for prime in _STRIDE_PRIMES if flat.size <= prime * _MOST_VALUES), _STRIDE_PRIMES[-1])
    width = _width(low, high)
    first = int(np.floor(low / width))
    picked = flat if step == 1 else np.append(flat[::step], np.array([low, high], np.float32))
    places = np.floor(picked * (1.0 / width)).astype(np.int64) - first
    return Histogram(low, high, width, first, np.bincount(places, minlength=1), (low, high))


def merged(one: Histogram, other: Histogram) -> Histogram:
    """Count `other`, the next picture, with `one`, in bins as wide as the extremes of both need."""
    low, high = min(one.low, other.low), max(one.high, other.high)
    width = max(one.width, other.width, _width(low, high))
    parts = [_widened(part, width) for part in (one, other)]
    first = min(start for start, _ in parts)
    counts = np.zeros(max(start + len(part) for start, part in parts) - first, np.int64)
    for start, part in parts:
        counts[start - first : start - first + len(part)] += part
    before, after = (
        _MEMORY * old + (1.0 - _MEMORY) * new for old, new in zip(one.usual, other.usual, strict=True)
    )
    return Histogram(low, high, width, first, counts, (before, after))


def _width(low: float, high: float) -> float:
    """Return the power of two that lets BINS bins span the two."""
    reach = max(high - low, abs(low) * 1e-6, abs(high) * 1e-6, 1e-12)
    return float(2.0 ** np.ceil(np.log2(reach / (BINS - 2))))


def _widened(histogram: Histogram, width: float) -> tuple[int, NDArray[np.int64]]:
    factor = round(width / histogram.width)
    first = histogram.first // factor
    places = (np.arange(len(histogram.counts)) + histogram.first) // factor - first
    counts = np.bincount(places, weights=histogram.counts).astype(np.int64)
    return first, counts


@dataclass(frozen=True, eq=False)
class Statistics:
    """The histogram of every activation, by the tensor's name, over `pictures` inputs."""

    pictures: int
    tensors: Mapping[str, Histogram]


def dump(statistics: Statistics) -> dict[str, NDArray[np.generic]]:
    """Return `statistics` as arrays for numpy.savez."""
    histograms = list(statistics.tensors.values())
    return {
        "pictures": np.array(statistics.pictures),
        "names": np.array(list(statistics.tensors), dtype=np.str_),
        "real": np.array([(part.low, part.high, part.width, *part.usual) for part in histograms], np.float64),
        "first": np.array([part.first for part in histograms], np.int64),
        "lengths": np.array([len(part.counts) for part in histograms], np.int64),
        "counts": np.concatenate([part.counts for part in histograms] or [np.zeros(0, np.int64)]),
    }


def parse(arrays: Mapping[str, NDArray[np.generic]]) -> Statistics:
    """Read what `dump` returned."""
    counts = np.split(arrays["counts"], np.cumsum(arrays["lengths"])[:-1])
    parts = zip(arrays["names"], arrays["real"], arrays["first"], counts, strict=True)
    tensors = {
        str(name): Histogram(
            float(low),
            float(high),
            float(width),
            int(first),
            own.astype(np.int64),
            (float(before), float(after)),
        )
        for name, (low, high, width, before, after), first, own in parts
    }
    return Statistics(int(arrays["pictures"]), tensors)
