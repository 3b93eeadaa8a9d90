"""The luma of decoded pictures, and how much of one differs from another beyond light and noise. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

    Luma = NDArray[np.uint8]

_BLOCK = 4  # luma samples are averaged over blocks of this many by this many
_COLUMNS = 192  # luma samples across the picture: blocks of 16 px of a 768 px wide one
_CHROMA_COLUMNS = 48
_STEP_FLOOR = 10.0  # grey levels that a block must change by, on a picture without noise
_STEP_CEILING = 24.0  # and at most, so that a picture in which everything moves is not taken for noise
_SIGMAS = 4.5  # the same in standard deviations of the noise, as the picture itself shows it
# Where the luma bytes lie in plane 0: (first byte, bytes from pixel to pixel).
_LUMA_AT = {
    **dict.fromkeys(("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"), (0, 1)),
    **dict.fromkeys(("yuv411p", "nv12", "nv16", "nv21", "gray"), (0, 1)),
    **dict.fromkeys(("yuyv422",), (0, 2)),
    **dict.fromkeys(("uyvy422", "p010le"), (1, 2)),
}
# Where those of U and V lie: pixels that share one (across, down), then plane, first byte, bytes apart of each.
_PLANAR, _PAIRED = ((1, 0, 1), (2, 0, 1)), ((1, 0, 2), (1, 1, 2))
_CHROMA_AT = {
    **dict.fromkeys(("yuv420p", "yuvj420p"), ((2, 2), _PLANAR)),
    **dict.fromkeys(("yuv422p", "yuvj422p"), ((2, 1), _PLANAR)),
    **dict.fromkeys(("yuv444p", "yuvj444p"), ((1, 1), _PLANAR)),
    "yuv411p": ((4, 1), _PLANAR),
    "nv12": ((2, 2), _PAIRED),
    "nv16": ((2, 1), _PAIRED),
    "nv21": ((2, 2), _PAIRED[::-1]),
    "yuyv422": ((2, 1), ((0, 1, 4), (0, 3, 4))),
    "uyvy422": ((2, 1), ((0, 0, 4), (0, 2, 4))),
    "p010le": ((2, 2), ((1, 1, 4), (1, 3, 4))),
}


def luma_of(picture: av.VideoFrame, step: int = 0) -> Luma | None:
    """View every `step`-th luma sample of every `step`-th row: no copy; None where the format hides them.

    `step` 0 gives about 192 columns. The view dies with the picture: keep a copy, never the view.
    """
    at = _LUMA_AT.get(picture.format.name)
    plane = picture.planes[0]
    if at is None or plane.line_size <= 0:
        return None
    step = step or max(1, picture.width // _COLUMNS)
    first, apart = at
    return _rows(plane)[: picture.height : step, first : picture.width * apart : step * apart]


def chroma_of(picture: av.VideoFrame) -> tuple[Luma, Luma] | None:
    """Copy about 48 samples across of U and of V; None where the format has none or hides them."""
    at = _CHROMA_AT.get(picture.format.name)
    if at is None or picture.planes[0].line_size <= 0:
        return None
    (across, down), places = at
    width, height = -(-picture.width // across), -(-picture.height // down)
    step = max(1, width // _CHROMA_COLUMNS)
    u, v = (
        _rows(picture.planes[plane])[:height:step, first : width * apart : step * apart].copy()
        for plane, first, apart in places
    )
    return u, v


def _rows(plane: av.video.plane.VideoPlane) -> Luma:
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload, no-any-return]


def block_means(luma: Luma) -> NDArray[np.float32]:
    """Average over blocks of 4 x 4 samples, noise down to a quarter: float32 (rows, columns)."""
    rows, columns = (max(1, n // _BLOCK) for n in luma.shape)
    edge_y, edge_x = (min(_BLOCK, n) for n in luma.shape)
    whole = luma[: rows * edge_y, : columns * edge_x]
    sums = np.add.reduceat(whole, np.arange(0, rows * edge_y, edge_y), axis=0, dtype=np.uint16)
    sums = np.add.reduceat(sums, np.arange(0, columns * edge_x, edge_x), axis=1, dtype=np.uint16)
    means: NDArray[np.float32] = sums.astype(np.float32) / np.float32(edge_y * edge_x)
    return means


def changed_share(blocks: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Return the share of blocks, 0..1, that differ beyond light and noise; 1.0 when the size differs.

    A change of light (mains flicker, exposure) is one gain for all blocks and taken out as the median
    ratio; the noise is estimated from the differences themselves (1.4826 times the median deviation,
    Rousseeuw 1993).
    """
    if blocks.shape != reference.shape:
        return 1.0
    gain = np.median((blocks + 1.0) / (reference + 1.0))
    difference = np.abs(blocks - reference * gain)
    noise = 1.4826 * float(np.median(difference))
    limit = min(max(_STEP_FLOOR, _SIGMAS * noise), _STEP_CEILING)
    return int(np.count_nonzero(difference > limit)) / int(difference.size)
