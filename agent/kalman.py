"""Places and speeds of objects between measurements: a Kalman filter whose speeds fade (Singer 1970).

All arrays hold n objects and are changed in place. `centre` (n, 2) and `speed` (n, 2), per second, have one unit of
length, such as heights of the frame. `spread` (n, 3) is the variance of the place, the covariance and the variance of
the speed, the same for both axes, in squares of the object's own size.
"""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def measured_once(n: int, *, jitter: float, speed_hz: float) -> Floats:
    """Return the spread of `n` objects seen once, with a place that is off by `jitter` and any speed."""
    return np.tile(np.array([jitter**2, 0.0, speed_hz**2]), (n, 1))


def predict(
    centre: Floats, speed: Floats, spread: Floats, dt_s: float, *, speed_hz: float, keeps_speed_s: float
) -> None:
    """Move every object by `dt_s`: speed as an Ornstein-Uhlenbeck process, exact for any step.

    `speed_hz` is the spread of speeds in sizes per second, `keeps_speed_s` for how long objects keep theirs.
    """
    tau_s, variance = keeps_speed_s, speed_hz**2
    kept = exp(-dt_s / tau_s)
    travel_s = tau_s * (1.0 - kept)
    centre += speed * travel_s
    speed *= kept
    place = variance * tau_s**2 * (2.0 * dt_s / tau_s - 3.0 + 4.0 * kept - kept**2)
    cross = variance * tau_s * (1.0 - kept) ** 2
    spread[:, 0] += 2.0 * travel_s * spread[:, 1] + travel_s**2 * spread[:, 2] + place
    spread[:, 1] = kept * (spread[:, 1] + travel_s * spread[:, 2]) + cross
    spread[:, 2] = kept**2 * spread[:, 2] + variance * (1.0 - kept**2)


def correct(
    centre: Floats,
    speed: Floats,
    spread: Floats,
    rows: NDArray[np.intp],
    measured: Floats,
    *,
    jitter: float,
) -> None:
    """Take over where the objects `rows` were `measured` (m, 2), with an error of `jitter` sizes."""
    p = spread[rows]
    gain = p[:, :2] / (p[:, :1] + jitter**2)
    off = measured - centre[rows]
    centre[rows] += gain[:, :1] * off
    speed[rows] += gain[:, 1:] * off
    p[:, 2] -= gain[:, 1] * p[:, 1]
    p[:, :2] *= 1.0 - gain[:, :1]
    spread[rows] = p
