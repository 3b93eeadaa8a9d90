"""Drawing on pictures with OpenCV: boxes, outlines and lines of text, the same wherever a picture is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from agent.errors import InputMissing

if TYPE_CHECKING:
    from numpy.typing import NDArray

Colour = tuple[int, int, int]
"""Blue, green, red 0..255, as everything OpenCV draws."""
BACKGROUND: Colour = (27, 23, 20)
TEXT: Colour = (240, 238, 236)
DIM: Colour = (170, 162, 155)
ACCENTS: tuple[Colour, ...] = (
    (94, 213, 60),
    (48, 178, 255),
    (255, 170, 70),
    (180, 120, 255),
    (80, 220, 230),
)
_SUPERSAMPLE = 3  # text is drawn this much larger, then averaged down


def require_opencv(what: str) -> Any:
    """Return the module cv2. Raises InputMissing, which says that `what` needs it, with the fix."""
    try:
        import cv2
    except ImportError as error:
        fix = "pip install 'edge-agent[opencv]' or apt install python3-opencv"
        raise InputMissing(f"{what} needs OpenCV", seen=error, fix=fix) from error
    return cv2


def frame_box(
    cv2: Any, picture: NDArray[np.uint8], low: tuple[int, int], high: tuple[int, int], colour: Colour
) -> None:
    """Draw a rectangle with corners `low` and `high` (x, y, px), dark around `colour`."""
    for outline, thickness in ((BACKGROUND, 4), (colour, 2)):
        cv2.rectangle(picture, low, high, outline, thickness, cv2.LINE_AA)


def write_text(
    cv2: Any, strip: NDArray[np.uint8], text: str, *, x: int, size: float, colour: Colour, bold: bool = False
) -> int:
    """Write one line, vertically centred, from `x` px (negative: up to `x` px before the right edge).

    Returns the x after it. Drawn large and averaged down: OpenCV's strokes are ragged at this size.
    """
    font, thick = cv2.FONT_HERSHEY_DUPLEX if bold else cv2.FONT_HERSHEY_SIMPLEX, 2 * _SUPERSAMPLE // 2
    scale = size * _SUPERSAMPLE
    (width, height), _ = cv2.getTextSize(text, font, scale, thick)
    large = np.zeros((strip.shape[0] * _SUPERSAMPLE, strip.shape[1] * _SUPERSAMPLE), np.uint8)
    left = x * _SUPERSAMPLE if x >= 0 else large.shape[1] + x * _SUPERSAMPLE - width
    cv2.putText(large, text, (left, (large.shape[0] + height) // 2), font, scale, 255, thick, cv2.LINE_AA)
    cover = (
        cv2.resize(large, (strip.shape[1], strip.shape[0]), interpolation=cv2.INTER_AREA)[..., None] / 255.0
    )
    strip[:] = (strip * (1 - cover) + np.array(colour) * cover).round().astype(np.uint8)
    return int(left + width) // _SUPERSAMPLE + 1
