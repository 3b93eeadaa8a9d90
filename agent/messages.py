"""The messages between stages: frozen, validated at construction, struct of arrays where there are boxes.

Times: `*_s` on the logic clock are seconds of CLOCK_MONOTONIC on a live source, and of the PTS with
`--pace fastest`, so that one clip gives the same events everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

EventType = Literal["new", "update", "end"]
Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 as fractions 0..1 of the frame."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded frame, unconverted: it holds the decoder's own reference-counted buffer.

    `seq` is the frame's number in the source from 0, `pts_s` its presentation time in the source, `time_s`
    its time on the logic clock, `captured_s` its capture time on CLOCK_MONOTONIC (age = now - captured_s).
    """

    camera: str
    seq: int
    pts_s: float
    time_s: float
    captured_s: float
    picture: av.VideoFrame

    def __post_init__(self) -> None:
        if not isfinite(self.pts_s + self.time_s + self.captured_s):
            raise ValueError(
                f"frame {self.seq}: {self.pts_s}, {self.time_s}, {self.captured_s} s: a time is no number"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.picture.width, self.picture.height


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where the frame lies in the model input: input = frame * scale + offset, both as fractions 0..1."""

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float

    def to_frame(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map boxes (n, 4), fractions of the model input, to fractions of the frame, clipped to it."""
        offset = np.array([self.offset_x, self.offset_y] * 2, np.float32)
        scale = np.array([self.scale_x, self.scale_y] * 2, np.float32)
        on_frame: NDArray[np.float32] = np.clip((xyxy - offset) / scale, np.float32(0), np.float32(1))
        return on_frame


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """A batch of one in the dtype and layout of the model, and where the frame lies in it."""

    tensor: NDArray[Any]
    geometry: Geometry


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor of an engine. `scale` 0 means not quantized; else real = (stored - zero_point) * scale."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float = 0.0
    zero_point: int = 0


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What really runs: told in every event and in every complaint about speed.

    `delegate` False: TFLite's own kernels were asked for, so that nothing is delegated is no fault.
    """

    backend: str
    precision: str
    threads: int
    delegated_nodes: int
    nodes: int
    delegate: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Boxes of one frame: xyxy float32 (n, 4) 0..1, score float32 (n,) 0..1, class_id int32 (n,)."""

    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    class_id: NDArray[np.int32]

    def __post_init__(self) -> None:
        n = len(self.score)
        _check("xyxy", self.xyxy, (n, 4), np.float32)
        _check("score", self.score, (n,), np.float32)
        _check("class_id", self.class_id, (n,), np.int32)

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, index: NDArray[Any] | slice) -> Detections:
        """Select rows by mask, indices or slice."""
        return Detections(self.xyxy[index], self.score[index], self.class_id[index])

    @staticmethod
    def empty() -> Detections:
        """No boxes."""
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """Live tracks after one frame, one row a track: a box keeps its `track_id` (int32, from 1) over time.

    `matched` (bool) says that a detection of this very frame carries the track; the others are coasting,
    their box predicted. `start_s` and `seen_s` (float64) are the logic times of the first and the last
    matched detection.
    """

    track_id: NDArray[np.int32]
    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    class_id: NDArray[np.int32]
    matched: NDArray[np.bool_]
    start_s: NDArray[np.float64]
    seen_s: NDArray[np.float64]

    def __post_init__(self) -> None:
        n = len(self.track_id)
        _check("track_id", self.track_id, (n,), np.int32)
        _check("xyxy", self.xyxy, (n, 4), np.float32)
        _check("score", self.score, (n,), np.float32)
        _check("class_id", self.class_id, (n,), np.int32)
        _check("matched", self.matched, (n,), np.bool_)
        _check("start_s", self.start_s, (n,), np.float64)
        _check("seen_s", self.seen_s, (n,), np.float64)

    def __len__(self) -> int:
        return len(self.track_id)


@dataclass(frozen=True, slots=True)
class SamplingReport:
    """How much is really looked at: inferences a second, the longest time between two (None: unknown)."""

    mode: str
    effective_hz: float
    miss_window_s: float | None


@dataclass(frozen=True, slots=True)
class Event:
    """A change in the life of one object, as decided; ids of delivery and wall-clock times come on the wire.

    `start_s`, `end_s`, `time_s` are on the logic clock; `end_s` and `reason` are set by "end" alone.
    `score` and `box` are those of this moment, `top_score` the best so far.
    """

    type: EventType
    event_id: str
    camera: str
    label: str
    score: float
    top_score: float
    box: Box
    zones: tuple[str, ...]
    stationary: bool
    start_s: float
    time_s: float
    end_s: float | None = None
    reason: str | None = None


def _check(name: str, array: NDArray[Any], shape: tuple[int, ...], dtype: type) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{name}: {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")
