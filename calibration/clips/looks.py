"""What a picture is chosen by: brightness, contrast, motion, and where which colours and edges are. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from av.video.reformatter import ColorRange, Interpolation

from agent.luma import changed_share
from agent.picture import flaw_of, sample_of
from agent.preprocess import colour_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import av
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

SIZE_PX = (96, 72)
"""Width and height that every picture is scaled to in order to be looked at."""
_BLOCK_PX = 4
_CELLS = (3, 4)
"""Rows and columns of the cells of which colours and edges are told."""
_TURNS = 4
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R BT.601."""


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """Pictures of one clip or of many, a row each; brightness and contrast in grey levels, motion 0..1.

    `blocks` (n, 18, 24) uint8 is the luma averaged over blocks, `colours` (n, 36) the luma and both colour
    differences of 3 x 4 cells in grey levels, `edges` (n, 48) the strength of edges in 4 directions in each.
    """

    seq: NDArray[np.int64]
    pts_s: NDArray[np.float64]
    blocks: NDArray[np.uint8]
    brightness: Floats
    contrast: Floats
    motion: Floats
    colours: Floats
    edges: Floats

    def __len__(self) -> int:
        return len(self.seq)

    def __getitem__(self, index: NDArray[Any] | slice) -> Looks:
        """Select rows by mask, indices or slice."""
        return Looks(**{name: column[index] for name, column in self.columns().items()})

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def joined(parts: Sequence[Looks]) -> Looks:
    """Return the rows of all `parts`, at least one, in their order."""
    columns = [part.columns() for part in parts]
    return Looks(**{name: np.concatenate([c[name] for c in columns]) for name in columns[0]})


def look_at(picture: av.VideoFrame, seq: int, pts_s: float, before: Looks | None) -> Looks:
    """Return the one row of `picture`; its motion is the share of it that differs from the row `before`."""
    matrix, colour_range = colour_of(picture)
    small = picture.reformat(
        width=SIZE_PX[0],
        height=SIZE_PX[1],
        format="rgb24",
        src_colorspace=matrix,
        src_color_range=colour_range,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.AREA,
        threads=1,
    )
    rgb = small.to_ndarray().astype(np.float32)
    luma = rgb @ _LUMA
    blocks = _means(luma, SIZE_PX[1] // _BLOCK_PX, SIZE_PX[0] // _BLOCK_PX).round().astype(np.uint8)
    motion = 0.0 if before is None else motion_between(before.blocks[0], blocks)
    planes = (luma, rgb[..., 2] - luma, rgb[..., 0] - luma)
    return Looks(
        np.array([seq]),
        np.array([pts_s]),
        blocks[None],
        np.array([luma.mean()], np.float32),
        np.array([luma.std()], np.float32),
        np.array([motion], np.float32),
        np.concatenate([_means(plane, *_CELLS).ravel() for plane in planes])[None],
        _edges(luma)[None],
    )


def motion_between(before: NDArray[np.uint8], blocks: NDArray[np.uint8]) -> float:
    """Return the share of the blocks, 0..1, that differ beyond light and noise."""
    return changed_share(blocks.astype(np.float32), before.astype(np.float32))


def flaw_in(picture: av.VideoFrame) -> str:
    """Return why the picture shows no scene ("black", "low_entropy"), "damaged" by its decoder, or ""."""
    if picture.is_corrupt:
        return "damaged"
    sample = sample_of(picture) or sample_of(picture.reformat(format="yuv420p", threads=1))
    return flaw_of(sample).kind if sample else ""


def _means(plane: Floats, rows: int, columns: int) -> Floats:
    height, width = plane.shape[0] // rows, plane.shape[1] // columns
    means: Floats = plane.reshape(rows, height, columns, width).mean(axis=(1, 3))
    return means


def _edges(luma: Floats) -> Floats:
    """Return the mean strength of edges by direction in each cell (after Dalal and Triggs 2005, HOG)."""
    down, across = np.gradient(luma)
    strength = np.hypot(down, across)
    turn = (np.arctan2(down, across) % np.pi * (_TURNS / np.pi)).astype(np.int64) % _TURNS
    cells = [_means(np.where(turn == n, strength, np.float32(0)), *_CELLS).ravel() for n in range(_TURNS)]
    return np.concatenate(cells).astype(np.float32)
