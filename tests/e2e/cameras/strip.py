"""A time strip that a program can read: a counter and the capture time, burnt into the top of a frame.

2 rows of 56 black and white cells: 32 bits counter, 64 bits CLOCK_MONOTONIC in microseconds, 16 bits
CRC-CCITT. Cell positions are relative, so that it survives H.264, MJPEG and scaling. Needs NumPy alone.
"""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS, COLUMNS = 2, 56
BLACK, WHITE = 16, 235
MIDDLE = (0.3, 0.7)
"""The part of a cell that is read: its edges are blurred by the codec."""


def height_px(frame_height_px: int) -> int:
    """Return the height of the strip in a frame of that height."""
    return max(ROWS * 4, frame_height_px // 12)


def burn(luma: NDArray[np.uint8], *, counter: int, time_us: int) -> None:
    """Write the strip into the top rows of `luma` (height, width), in place."""
    raw = counter.to_bytes(4, "big") + time_us.to_bytes(8, "big")
    raw += binascii.crc_hqx(raw, 0xFFFF).to_bytes(2, "big")
    bits = np.unpackbits(np.frombuffer(raw, np.uint8)).reshape(ROWS, COLUMNS)
    height, width = height_px(luma.shape[0]), luma.shape[1]
    row, column = np.arange(height) * ROWS // height, np.arange(width) * COLUMNS // width
    luma[:height] = np.where(bits[np.ix_(row, column)], WHITE, BLACK)


def read(luma: NDArray[np.uint8]) -> tuple[int, int] | None:
    """Return (counter, time_us) of a frame's luma (height, width), or None where the strip is damaged."""
    strip = luma[: height_px(luma.shape[0])]
    bits = [
        _middle(_middle(strip, row, ROWS).T, column, COLUMNS).mean() > (BLACK + WHITE) / 2
        for row in range(ROWS)
        for column in range(COLUMNS)
    ]
    raw = np.packbits(bits).tobytes()
    if binascii.crc_hqx(raw[:12], 0xFFFF) != int.from_bytes(raw[12:], "big"):
        return None
    return int.from_bytes(raw[:4], "big"), int.from_bytes(raw[4:12], "big")


def _middle(cells: NDArray[Any], index: int, count: int) -> NDArray[Any]:
    size = len(cells) / count
    start = int((index + MIDDLE[0]) * size)
    return cells[start : max(start + 1, int((index + MIDDLE[1]) * size))]
