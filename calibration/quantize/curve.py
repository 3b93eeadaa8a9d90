"""The trade-off the search found: every network it made, how good and how fast each is, and what each layer costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Point:
    """One network. `accuracy` 0..1 is the score's; `ms_float` is the float network's time, measured in turns with `ms`.

    `float_ops` are the names of the operators in float, `int8_macs` the share 0..1 of multiplications in INT8.
    """

    file: Path
    label: str
    float_ops: tuple[str, ...]
    accuracy: float
    ms: float
    ms_float: float
    bytes: int
    int8_macs: float


@dataclass(frozen=True, slots=True)
class LayerDamage:
    """What a group of operators, named by its first, does to the outputs when it alone is in INT8: 0 is nothing."""

    name: str
    kind: str
    damage: float


@dataclass(frozen=True, slots=True)
class Curve:
    """All points in the order tried, the number of the `chosen` one, and the layers by falling damage."""

    points: tuple[Point, ...]
    chosen: int
    layers: tuple[LayerDamage, ...]

    @property
    def point(self) -> Point:
        """The chosen point."""
        return self.points[self.chosen]
