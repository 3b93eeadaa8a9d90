"""Pixels of a driver's buffer as a VideoFrame that owns its memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np

from agent.errors import BadData

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

PLANES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "yuv420p": ((1, 1, 1), (2, 2, 1), (2, 2, 1)),
    "nv12": ((1, 1, 1), (2, 2, 2)),
    "yuyv422": ((2, 1, 4),),
    "uyvy422": ((2, 1, 4),),
    "gray": ((1, 1, 1),),
    "rgb24": ((1, 1, 3),),
    "bgr24": ((1, 1, 3),),
}
"""Of each plane of a format: how many columns and rows of pixels share a group of so many bytes."""


def copied(
    data: NDArray[np.uint8],
    size: tuple[int, int],
    pixel_format: str,
    strides_bytes: Sequence[int],
    offsets_bytes: Sequence[int] | None = None,
) -> av.VideoFrame:
    """Return a copy of the picture of `size` (width, height) in `data` (n,).

    There is a stride for each plane; without offsets the planes follow each other. Raises BadData when `data`
    is too short.
    """
    width, height = size
    frame = av.VideoFrame(width, height, pixel_format)
    offset = 0
    for index, (across, down, group_bytes) in enumerate(PLANES[pixel_format]):
        stride, rows = strides_bytes[index], -(-height // down)
        row_bytes = -(-width // across) * group_bytes
        offset = offset if offsets_bytes is None else offsets_bytes[index]
        if offset + (rows - 1) * stride + row_bytes > len(data) or stride < row_bytes:
            raise BadData("a picture with bytes missing", seen=f"{len(data)} bytes for {width}x{height}")
        source = np.lib.stride_tricks.as_strided(data[offset:], (rows, row_bytes), (stride, 1))
        plane = frame.planes[index]
        target = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
        target[:rows, :row_bytes] = source
        offset += stride * rows
    return frame


def unpacker(
    pixel_format: str, size: tuple[int, int], stride_bytes: int
) -> Callable[[NDArray[np.uint8]], av.VideoFrame | None]:
    """Return what makes a driver's buffer a picture, None of a damaged one; `pixel_format` may be "mjpeg"."""
    strides_bytes = [stride_bytes, stride_bytes // 2, stride_bytes // 2]
    if pixel_format != "yuv420p":
        strides_bytes = [stride_bytes] * 2

    def copy(data: NDArray[np.uint8]) -> av.VideoFrame | None:
        try:
            return copied(data, size, pixel_format, strides_bytes)
        except BadData:
            return None

    return _jpeg_decoder() if pixel_format == "mjpeg" else copy


def _jpeg_decoder() -> Callable[[NDArray[np.uint8]], av.VideoFrame | None]:
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.thread_count, decoder.thread_type = 1, "NONE"

    def decode(data: NDArray[np.uint8]) -> av.VideoFrame | None:
        try:
            pictures = decoder.decode(av.Packet(data.tobytes()))
        except av.FFmpegError:
            return None
        return pictures[0] if pictures else None

    return decode
