"""What quantizing one group alone does to the outputs: a measure that needs few pictures and no decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from agent.backends import open_engine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from agent.messages import TensorSpec

    Outputs = list[tuple[NDArray[np.float32], ...]]


def outputs_of(file: Path, probes: Sequence[NDArray[np.float32]]) -> Outputs:
    """Return the outputs of `file` for each of `probes`, real-valued inputs. Raises BadData."""
    engine = open_engine(file, precision="", threads=1)
    try:
        return [engine.infer(stored(engine.input, probe)) for probe in probes]
    finally:
        engine.close()


def stored(spec: TensorSpec, real: NDArray[np.float32]) -> NDArray[np.generic]:
    """Return `real` as a tensor of `spec` holds it: the reverse of (stored - zero_point) * scale."""
    if spec.dtype.kind == "f" or not spec.scale:
        same: NDArray[np.generic] = real.astype(spec.dtype, copy=False)
        return same
    limits = np.iinfo(spec.dtype)
    places = np.rint(real / np.float32(spec.scale)) + spec.zero_point
    clipped: NDArray[np.generic] = np.clip(places, limits.min, limits.max).astype(spec.dtype)
    return clipped


def output_error(reference: Outputs, seen: Outputs) -> float:
    """Return how far `seen` is from `reference`: squared error over variance, channel by channel, then the mean.

    The last axis is the channel; each counts alike, so that scores weigh as much as boxes. 0 is no error,
    1 that of an output which always says its mean.
    """
    shares = []
    for wanted, got in zip(zip(*reference, strict=True), zip(*seen, strict=True), strict=True):
        true, other = _by_channel(wanted), _by_channel(got)
        variance = true.var(axis=0)
        told = variance > variance.max() * 1e-9
        error = ((true - other) ** 2).mean(axis=0)
        shares.append(error[told] / variance[told])
    every = np.concatenate(shares)
    return float(every.mean()) if every.size else 0.0


def _by_channel(tensors: tuple[NDArray[np.float32], ...]) -> NDArray[np.float64]:
    return np.concatenate([one.reshape(-1, one.shape[-1]) for one in tensors]).astype(np.float64)
