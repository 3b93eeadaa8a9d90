"""Networks that were tried: each is scored and timed once, and remembered for a search that was interrupted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from agent.errors import BadData
from agent.wholefile import write_whole
from calibration.quantize.curve import Point
from calibration.quantize.timing import alternated

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class _Measured(msgspec.Struct, frozen=True):
    """What is kept beside a network."""

    accuracy: float
    ms: float
    ms_float: float


@dataclass
class Tried:
    """Measures networks against `float_tflite`; `points` are all so far, in the order they were first asked for."""

    float_tflite: Path
    score: Callable[[Path], float]
    points: dict[Path, Point] = field(default_factory=dict)

    def measure(self, file: Path, label: str, float_ops: tuple[str, ...], int8_macs: float) -> Point:
        """Return the point of `file`, known from before if it is. Raises BadData when the score is no number."""
        if file not in self.points:
            measured = self._known(file) or self._fresh(file)
            self.points[file] = Point(
                file,
                label,
                float_ops,
                measured.accuracy,
                measured.ms,
                measured.ms_float,
                file.stat().st_size,
                int8_macs,
            )
        return self.points[file]

    def _fresh(self, file: Path) -> _Measured:
        times = alternated(file, self.float_tflite)
        accuracy = self.score(file)
        if not math.isfinite(accuracy):
            fix = "the float network finds nothing on these pictures: give some with what it knows in them"
            raise BadData("agreement with the float network", seen=accuracy, fix=fix)
        measured = _Measured(accuracy, times.ms, times.ms_float)
        write_whole(_note(file), msgspec.json.encode(measured))
        return measured

    def _known(self, file: Path) -> _Measured | None:
        try:
            return msgspec.json.decode(_note(file).read_bytes(), type=_Measured)
        except (OSError, msgspec.DecodeError):
            return None


def _note(file: Path) -> Path:
    return file.with_suffix(".json")
