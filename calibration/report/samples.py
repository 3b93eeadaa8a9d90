"""Pictures of a page: the same frame with the reference's boxes and with the candidate's, as JPEG in the HTML."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from agent.drawing import ACCENTS, BACKGROUND, TEXT, Colour, frame_box, require_opencv, write_text
from calibration.pairs import pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.messages import Detections, Frame

PICTURE_PX = 320
"""The longer side of a picture on the page."""
SAME_IOU = 0.5
_QUALITY = 72
_LABEL_PX = 14
AGREED, ALONE = ACCENTS[0], ACCENTS[1]
"""Colours of a box that the other model has too, and of one that it lacks."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One frame as two models see it. `caption` says why it is shown; `names` are the labels by class id."""

    name: str
    frame: Frame
    reference: Detections
    candidate: Detections
    names: tuple[str, ...]
    caption: str = ""


class Shown(NamedTuple):
    """A sample as the page has it: two pictures as data URIs, and how many boxes only one model has."""

    name: str
    caption: str
    reference: str
    candidate: str
    lost: int
    added: int


def show(sample: Sample) -> Shown:
    """Draw `sample`. Raises InputMissing without OpenCV."""
    cv2 = require_opencv("the report")
    picture = _scaled(cv2, sample.frame.picture.to_ndarray(format="bgr24").astype(np.uint8, copy=False))
    kept, confirmed = partners(sample.reference, sample.candidate)
    sides = ((sample.reference, kept), (sample.candidate, confirmed))
    reference, candidate = (
        _data_uri(cv2, _drawn(cv2, picture, found, agreed, sample.names)) for found, agreed in sides
    )
    lost, added = int((~kept).sum()), int((~confirmed).sum())
    return Shown(sample.name, sample.caption, reference, candidate, lost, added)


def partners(a: Detections, b: Detections) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which boxes of `a` and which of `b` have one of the same class and place in the other.

    Each box has one partner at most; the best scores choose first.
    """
    in_a, in_b = np.zeros(len(a), np.bool_), np.zeros(len(b), np.bool_)
    for i, j in pairs(a, b, SAME_IOU):
        in_a[i] = in_b[j] = True
    return in_a, in_b


def _scaled(cv2: Any, picture: NDArray[Any]) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    scale = min(1.0, PICTURE_PX / max(height, width))
    size_px = (max(1, round(width * scale)), max(1, round(height * scale)))
    small: NDArray[np.uint8] = cv2.resize(picture, size_px, interpolation=cv2.INTER_AREA)
    return small


def _drawn(
    cv2: Any,
    picture: NDArray[np.uint8],
    found: Detections,
    agreed: NDArray[np.bool_],
    names: tuple[str, ...],
) -> NDArray[np.uint8]:
    """Return a copy of `picture` with its boxes, those without a partner last and so on top."""
    drawn: NDArray[np.uint8] = picture.copy()
    sides = np.array([drawn.shape[1], drawn.shape[0]] * 2)
    corners = (found.xyxy * sides).round().astype(int).tolist()
    colours = [AGREED if both else ALONE for both in agreed]
    order = np.argsort(~agreed, kind="stable")
    for i in order:
        x1, y1, x2, y2 = corners[i]
        frame_box(cv2, drawn, (x1, y1), (x2, y2), colours[i])
    for i in order:
        label = f"{names[found.class_id[i]]} {found.score[i]:.2f}"
        _label(cv2, drawn, label, corners[i][0], corners[i][1], colours[i])
    return drawn


def _label(cv2: Any, picture: NDArray[np.uint8], text: str, x: int, y: int, colour: Colour) -> None:
    """Write `text` over the upper edge of its box, or below it where the picture ends."""
    top = y - _LABEL_PX if y >= _LABEL_PX else max(0, y)
    strip = picture[top : top + _LABEL_PX, max(0, x) :]
    if strip.shape[0] < _LABEL_PX or strip.shape[1] < _LABEL_PX:
        return
    blank = np.full_like(strip, BACKGROUND)
    end = min(write_text(cv2, blank, text, x=4, size=0.35, colour=TEXT) + 3, strip.shape[1])
    strip[:, :end] = blank[:, :end]
    strip[:, :2] = colour


def _data_uri(cv2: Any, picture: NDArray[np.uint8]) -> str:
    _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
