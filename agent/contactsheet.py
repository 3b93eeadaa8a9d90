"""A contact sheet: the best frame of each event, decoded again, with its box, in a grid of tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agent import drawing
from agent.capture import open_source
from agent.drawing import ACCENTS, BACKGROUND, DIM, TEXT, Colour, frame_box, write_text
from agent.errors import BadData, CannotCreate
from agent.eventline import seconds_between

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from agent.messages import Box
    from agent.wire import EventMessage

TILE_PX = (480, 360)
MAX_TILES = 40
_MAX_COLUMNS = 6
_CAPTION_PX, _HEADER_PX, _GAP_PX = 44, 64, 16
_INSET_SHARE = 0.42  # of the tile's height: a close look at small objects
_PANEL: Colour = (42, 36, 32)


@dataclass(frozen=True, slots=True)
class Moment:
    """An event at its best: frame `seq` of the clip, its box, and its life in seconds of the clip."""

    label: str
    score: float
    seq: int
    pts_s: float
    box: Box
    start_s: float
    end_s: float | None


def moments(messages: Sequence[EventMessage]) -> list[Moment]:
    """Return one Moment per event, in the order of their beginnings.

    The best is the message with the highest score among "new" and "update": an "end" is told on a frame in
    which the object is no longer seen.
    """
    lives: dict[str, list[EventMessage]] = {}
    for message in messages:
        lives.setdefault(message.event_id, []).append(message)
    return sorted((_moment(life) for life in lives.values()), key=lambda moment: moment.start_s)


def _moment(life: Sequence[EventMessage]) -> Moment:
    seen = [message for message in life if message.type != "end"] or life
    best = max(seen, key=lambda message: message.score)
    start_s = max(0.0, best.frame.pts_s - seconds_between(best.start_time, best.time))
    ended = life[-1].end_time
    end_s = None if ended is None else start_s + seconds_between(best.start_time, ended)
    return Moment(best.label, best.score, best.frame.seq, best.frame.pts_s, best.box, start_s, end_s)


def require_opencv() -> Any:
    """Return the module cv2. Raises InputMissing with the fix."""
    return drawing.require_opencv("the contact sheet")


def write(path: Path, clip: Path, events: Sequence[Moment], *, title: str, subtitle: str) -> None:
    """Write the sheet as PNG: at most MAX_TILES `events`, in their order, with frames decoded from `clip`.

    Raises InputMissing without OpenCV, BadData when the clip lacks a frame, CannotCreate.
    """
    cv2 = require_opencv()
    shown = events[:MAX_TILES]
    frames = _frames(clip, {moment.seq for moment in shown})
    missing = [moment.seq for moment in shown if moment.seq not in frames]
    if missing:
        raise BadData(
            f"{clip.name} has no frame", seen=missing[0], fix="use the clip that the events came from"
        )
    colours = dict(zip(sorted({m.label for m in shown}), ACCENTS * len(shown), strict=False))
    tiles = [_tile(cv2, moment, frames[moment.seq], colours[moment.label]) for moment in shown]
    sheet = _grid(cv2, tiles, title=title, subtitle=subtitle)
    try:
        written = cv2.imwrite(str(path), sheet, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    except cv2.error as error:
        raise CannotCreate(str(path), seen=error, fix="name a file that ends in .png") from error
    if not written:
        raise CannotCreate(str(path), fix="make its folder writable")


def _frames(clip: Path, wanted: set[int]) -> Mapping[int, NDArray[np.uint8]]:
    found: dict[int, NDArray[np.uint8]] = {}
    source = open_source(str(clip), camera="sheet", pace="fastest")
    try:
        for frame in source.frames():
            if frame.seq in wanted:
                found[frame.seq] = frame.picture.to_ndarray(format="bgr24").astype(np.uint8, copy=False)
            if len(found) == len(wanted):
                break
    finally:
        source.close()
    return found


def _tile(cv2: Any, moment: Moment, frame: NDArray[np.uint8], colour: Colour) -> NDArray[np.uint8]:
    width_px, height_px = TILE_PX
    scale = min(width_px / frame.shape[1], height_px / frame.shape[0])
    size_px = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
    left, top = (width_px - size_px[0]) // 2, (height_px - size_px[1]) // 2
    tile = np.full((height_px + _CAPTION_PX, width_px, 3), _PANEL, np.uint8)
    picture = tile[top : top + size_px[1], left : left + size_px[0]]
    picture[:] = cv2.resize(frame, size_px, interpolation=cv2.INTER_AREA)
    x1, y1, x2, y2 = (round(v * size_px[i % 2]) for i, v in enumerate(moment.box))
    frame_box(cv2, picture, (x1, y1), (x2, y2), colour)
    _inset(cv2, picture, frame, moment.box, colour)
    _caption(cv2, tile[height_px:], moment, colour)
    return tile


def _inset(cv2: Any, picture: NDArray[np.uint8], frame: NDArray[np.uint8], box: Box, colour: Colour) -> None:
    """Put a close look at the box into the corner that is farthest from it, if the box is small."""
    height_px = round(picture.shape[0] * _INSET_SHARE)
    if box[3] - box[1] > _INSET_SHARE / 1.5:
        return
    crop = _around(frame, box)
    width_px = min(round(height_px * crop.shape[1] / crop.shape[0]), picture.shape[1] // 3)
    right, low = (box[0] + box[2]) < 1.0, (box[1] + box[3]) < 1.0
    x = picture.shape[1] - width_px - 8 if right else 8
    y = picture.shape[0] - height_px - 8 if low else 8
    picture[y : y + height_px, x : x + width_px] = cv2.resize(
        crop, (width_px, height_px), interpolation=cv2.INTER_CUBIC
    )
    frame_box(cv2, picture, (x, y), (x + width_px, y + height_px), colour)


def _around(frame: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """Return the part of `frame` with `box` and a margin, 3:4."""
    rows, columns = frame.shape[:2]
    x, y = (box[0] + box[2]) / 2 * columns, (box[1] + box[3]) / 2 * rows
    half_height = max((box[3] - box[1]) * rows * 0.6, (box[2] - box[0]) * columns * 0.6 * 4 / 3, 12.0)
    half_width = half_height * 3 / 4
    x = min(max(x, half_width), columns - half_width)
    y = min(max(y, half_height), rows - half_height)
    left, top = max(0, math.floor(x - half_width)), max(0, math.floor(y - half_height))
    return frame[top : math.ceil(y + half_height), left : math.ceil(x + half_width)]


def _caption(cv2: Any, strip: NDArray[np.uint8], moment: Moment, colour: Colour) -> None:
    strip[:, :6] = colour
    write_text(cv2, strip, f"{moment.label} {moment.score:.2f}", x=18, size=0.62, colour=TEXT, bold=True)
    end = "..." if moment.end_s is None else f"{moment.end_s:.1f} s"
    life = f"at {moment.pts_s:.1f} s   seen {moment.start_s:.1f} - {end}"
    write_text(cv2, strip, life, x=-14, size=0.5, colour=DIM)


def _grid(cv2: Any, tiles: Sequence[NDArray[np.uint8]], *, title: str, subtitle: str) -> NDArray[np.uint8]:
    columns = min(max(2, math.ceil(math.sqrt(len(tiles)))), _MAX_COLUMNS)
    rows = math.ceil(len(tiles) / columns)
    tile_w, tile_h = TILE_PX[0], TILE_PX[1] + _CAPTION_PX
    width_px = columns * (tile_w + _GAP_PX) + _GAP_PX
    sheet = np.full((_HEADER_PX + rows * (tile_h + _GAP_PX), width_px, 3), BACKGROUND, np.uint8)
    header = sheet[:_HEADER_PX]
    used_px = write_text(cv2, header, title, x=_GAP_PX, size=0.8, colour=TEXT, bold=True)
    write_text(cv2, header[:, used_px:], subtitle, x=-_GAP_PX, size=0.55, colour=DIM)
    for n, tile in enumerate(tiles):
        y = _HEADER_PX + n // columns * (tile_h + _GAP_PX)
        x = _GAP_PX + n % columns * (tile_w + _GAP_PX)
        sheet[y : y + tile_h, x : x + tile_w] = tile
    return sheet
