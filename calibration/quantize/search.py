"""The search: how few operators must stay in float for the network to be as good as it has to be."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calibration.quantize.bias import bias_moves
from calibration.quantize.curve import Curve, LayerDamage
from calibration.quantize.groups import int8_macs, names_of, tail_of, work_of
from calibration.quantize.layers import layer_damages
from calibration.quantize.network import read_network
from calibration.quantize.ranges import choose
from calibration.quantize.trial import least_damage
from calibration.quantize.tried import Tried
from calibration.quantize.variants import Workshop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from calibration.environments import Environment
    from calibration.quantize.curve import Point
    from calibration.quantize.groups import Group
    from calibration.quantize.network import Network
    from calibration.quantize.ranges import Method, Range
    from calibration.quantize.statistics import Statistics

    Progress = Callable[[str, int, int], None]

log = logging.getLogger(__name__)

_WAYS: tuple[Method, ...] = ("effect", "mse", "percentile", "tight", "tighter", "minmax")
"""Where each tensor's range is chosen from."""
_STEPS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""How many of the most damaging groups are left in float, one after the other."""
_BEGINNINGS = (2, 3, 4, 6, 8, 12, 16, 24)
"""How many of the first operators are left in float, one after the other, until the floor is reached."""
_RANGE_PROBES = 2
"""Ranges are tried on every second of the probes: there are many to try."""
_DROPS = 8
"""Of so many of the groups in float it is tried whether they can be INT8 after all."""
_PLATEAU, _PATIENCE = 0.004, 2
"""So many steps in a row that gain less than this in accuracy end the climb, once the floor is reached."""


def search(
    float_tflite: Path,
    statistics: Statistics,
    score: Callable[[Path], float],
    *,
    floor: float,
    probes: Sequence[NDArray[np.float32]],
    work: Path,
    environment: Environment,
    input_range: Range | None = None,
    progress: Progress | None = None,
) -> Curve:
    """Return the trade-off of `float_tflite` in INT8; `chosen` has the least float work at or above `floor`.

    `score` says how good a file is, 0..1, on the pictures of `statistics`; `probes` are some of these as
    real-valued inputs, `input_range` what such an input can hold. All that was made and measured is kept in `work`,
    a folder for this `score` and these `probes` alone: a second call goes on where the first was ended. If no
    point reaches `floor`, the best one is chosen. `progress` is told what is done, how far, and of how much.
    Raises BadData, CannotCreate.
    """
    network = read_network(float_tflite)
    steps = progress or (lambda *_: None)
    usual, *ways = (choose(network, statistics, way, input_range=input_range) for way in ("usual", *_WAYS))
    fitted = least_damage(float_tflite, network, ways, probes[::_RANGE_PROBES], work, steps)
    rough = Workshop(float_tflite, fitted, work, environment)
    [whole] = rough.make([names_of(network, tail_of(network))])
    moves = bias_moves(float_tflite, whole, probes)
    workshop = Workshop(float_tflite, fitted, work, environment, moves=moves)
    found = _Search(network, workshop, Tried(float_tflite, score), floor, steps)
    found.plain(Workshop(float_tflite, usual, work, environment, bounded=False))
    damages = layer_damages(network, rough, probes, steps)
    found.begin()
    found.climb([group for group, _ in damages])
    points = tuple(found.tried.points.values())
    return Curve(points, found.chosen(), tuple(LayerDamage(g.name, g.kind, damage) for g, damage in damages))


@dataclass(frozen=True)
class _Search:
    """`workshop` makes the networks that are tried."""

    network: Network
    workshop: Workshop
    tried: Tried
    floor: float
    progress: Progress

    def plain(self, workshop: Workshop) -> Point:
        """Try what the quantizer does by itself, as the measure of the rest: everything in INT8."""
        return self._try(workshop, frozenset(), "plain")

    def begin(self) -> None:
        """Leave the first operators in float: networks often lose most in their stem, and it is one island."""
        lengths = [k for k in _BEGINNINGS if k <= len(self.network.operators)]
        for n, k in enumerate(lengths):
            self.progress("beginning in float", n, len(lengths))
            kept = tail_of(self.network).union(range(k))
            point = self._try(self.workshop, kept, f"first {k} operators in float")
            if point.accuracy >= self.floor:
                break

    def climb(self, order: Sequence[Group]) -> None:
        """Leave more and more groups in float until it does not get better, then close in on the floor."""
        steps = [k for k in _STEPS if k <= len(order)]
        reached: dict[int, float] = {}
        small, best = 0, 0.0
        for n, k in enumerate(steps):
            self.progress("repair", n, len(steps))
            reached[k] = self._leave(order[:k]).accuracy
            small = small + 1 if reached[k] < best + _PLATEAU else 0
            best = max(best, reached[k])
            if best >= self.floor and small >= _PATIENCE:
                break
        self._close_in(order, reached)

    def _close_in(self, order: Sequence[Group], reached: Mapping[int, float]) -> None:
        """Find the fewest groups that reach the floor, between the last step below it and the first above."""
        good = [k for k, accuracy in reached.items() if accuracy >= self.floor]
        if not good:
            return
        high = min(good)
        low = max((k for k in reached if k < high), default=high)
        while high - low > 1:
            middle = (low + high) // 2
            if self._leave(order[:middle]).accuracy >= self.floor:
                high = middle
            else:
                low = middle
        self._thin_out(order[:high])

    def _thin_out(self, kept: Sequence[Group]) -> None:
        """Put back into INT8 what the floor can do without, the most work first."""
        most_work = sorted(kept, key=lambda group: -work_of(self.network, group.operators))
        for n, group in enumerate(most_work[:_DROPS] if len(kept) > 1 else ()):
            self.progress("thinning out", n, min(len(kept), _DROPS))
            fewer = [one for one in kept if one is not group]
            if self._leave(fewer).accuracy >= self.floor:
                kept = fewer

    def _leave(self, groups: Sequence[Group]) -> Point:
        """Return the point with `groups` in float, and with the tail, where outputs of unlike scale are joined."""
        kept = tail_of(self.network).union(*(group.operators for group in groups))
        return self._try(self.workshop, kept, f"{len(groups)} groups in float")

    def _try(self, workshop: Workshop, kept: frozenset[int], label: str) -> Point:
        names = names_of(self.network, kept)
        [file] = workshop.make([names])
        point = self.tried.measure(file, label, names, int8_macs(self.network, kept))
        log.info("%s: accuracy %.3f, %.2f ms, float %.2f ms", label, point.accuracy, point.ms, point.ms_float)
        return point

    def chosen(self) -> int:
        """Return the number of the point to take; the plain one, the first, is there for comparison only.

        By the work left in float, then by accuracy, not by the measured times: these differ from run to run, and
        the same pictures shall give the same network.
        """
        points = list(self.tried.points.values())
        number = {operator.name: n for n, operator in enumerate(self.network.operators)}
        good = [n for n in range(1, len(points)) if points[n].accuracy >= self.floor]
        if not good:
            return max(range(1, len(points)), key=lambda n: points[n].accuracy)

        def cost(n: int) -> tuple[float, float]:
            kept = (number[name] for name in points[n].float_ops)
            return work_of(self.network, kept), -points[n].accuracy

        return min(good, key=cost)
