"""One annotated frame of a camera, to aim it: zones, masks, detections, and a line with what it sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from agent.assembly import build_pipeline
from agent.check import verdict
from agent.drawing import ACCENTS, BACKGROUND, DIM, TEXT, Colour, frame_box, require_opencv, write_text
from agent.errors import CannotCreate
from agent.zones import Masks

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from agent.check.camera import Observation
    from agent.check.model import OpenModel
    from agent.check.target import CameraTarget
    from agent.messages import Detections
    from agent.zones import Polygon

WHAT = "picture"
MIN_SCORE = 0.1
"""Down to here detections are shown, dimmed where they are below the threshold."""
_MASK: Colour = (60, 60, 200)
_LINE_PX, _LABEL_PX = 40, 24
_MIN_WIDTH_PX = 960
"""Smaller pictures are enlarged: the text stays readable."""


def save(folder: Path, camera: CameraTarget, seen: Observation, model: OpenModel) -> tuple[Path, int]:
    """Write `<folder>/<camera>.jpg`; return its path and how many objects reach their threshold.

    Raises InputMissing without OpenCV, CannotCreate, or what the engine raises.
    """
    cv2 = require_opencv("a picture with zones and detections")
    if seen.frame is None:
        raise CannotCreate(str(folder), seen="no frame", fix="let the camera send pictures first")
    bgr = seen.frame.picture.to_ndarray(format="bgr24").astype(np.uint8, copy=False)
    detections = _detect(camera, seen, model)
    counting = counts(camera, model, detections)
    canvas = _enlarged(cv2, np.ascontiguousarray(bgr))
    _masks(cv2, canvas, camera.detect.masks)
    for n, zone in enumerate(camera.detect.zones):
        _zone(cv2, canvas, zone.name, zone.polygon, ACCENTS[(n + 1) % len(ACCENTS)])
    for n in np.argsort(detections.score):
        _box(cv2, canvas, model.bundle.labels[detections.class_id[n]], detections, int(n), bool(counting[n]))
    path = folder / f"{camera.name}.jpg"
    _write(cv2, path, np.vstack([_line(cv2, canvas.shape[1], camera, seen, model), canvas]))
    return path, int(counting.sum())


def counts(camera: CameraTarget, model: OpenModel, detections: Detections) -> NDArray[np.bool_]:
    """Tell which of `detections` reach their threshold, have a wanted label and stand in no mask: bool (n,)."""
    detect, labels = camera.detect, model.bundle.labels
    general = model.bundle.manifest.decoder.score_threshold if detect.threshold is None else detect.threshold
    good = Masks(detect.masks).keep(detections.xyxy)
    for n, class_id in enumerate(detections.class_id):
        label = labels[class_id]
        wanted = not detect.labels or label in detect.labels
        good[n] &= wanted and bool(detections.score[n] >= detect.thresholds.get(label, general))
    return good


def _detect(camera: CameraTarget, seen: Observation, model: OpenModel) -> Detections:
    pipeline = build_pipeline(
        model.bundle, model.engine, camera.detect, camera=camera.name, min_score=MIN_SCORE
    )
    if seen.frame is None:
        raise ValueError("no frame")
    given = pipeline.prepare(seen.frame)
    found = pipeline.finish(seen.frame, given.geometry, model.engine.infer(given.tensor)).detections
    return found[found.score >= MIN_SCORE]


def _enlarged(cv2: Any, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    if width >= _MIN_WIDTH_PX:
        return picture
    size = _MIN_WIDTH_PX, max(1, round(height * _MIN_WIDTH_PX / width))
    large: NDArray[np.uint8] = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
    return large


def _masks(cv2: Any, canvas: NDArray[np.uint8], masks: tuple[Polygon, ...]) -> None:
    """Tint what is masked and cross it out."""
    for mask in masks:
        corners = _pixels(canvas, mask)
        tinted = canvas.copy()
        cv2.fillPoly(tinted, [corners], _MASK)
        cv2.addWeighted(tinted, 0.45, canvas, 0.55, 0.0, dst=canvas)
        cv2.polylines(canvas, [corners], True, _MASK, 2, cv2.LINE_AA)
        _label(cv2, canvas, "mask", corners[0], _MASK)


def _zone(cv2: Any, canvas: NDArray[np.uint8], name: str, polygon: Polygon, colour: Colour) -> None:
    corners = _pixels(canvas, polygon)
    for outline, thickness in ((BACKGROUND, 4), (colour, 2)):
        cv2.polylines(canvas, [corners], True, outline, thickness, cv2.LINE_AA)
    _label(cv2, canvas, f"zone {name}", corners[0], colour)


def _box(
    cv2: Any, canvas: NDArray[np.uint8], label: str, detections: Detections, n: int, counting: bool
) -> None:
    height, width = canvas.shape[:2]
    x1, y1, x2, y2 = (round(float(v) * (width, height)[i % 2]) for i, v in enumerate(detections.xyxy[n]))
    colour = ACCENTS[0] if counting else DIM
    if counting:
        frame_box(cv2, canvas, (x1, y1), (x2, y2), colour)
    else:
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, 1, cv2.LINE_AA)
    _label(cv2, canvas, f"{label} {detections.score[n]:.2f}", np.array((x1, y1 - _LABEL_PX)), colour)


def _label(cv2: Any, canvas: NDArray[np.uint8], text: str, at: NDArray[Any], colour: Colour) -> None:
    """Write `text` on a dark strip at `at` (x, y, px), moved so that it lies in the picture."""
    text = _latin(text)
    (width_px, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
    height, width = canvas.shape[:2]
    x = min(max(0, int(at[0])), max(0, width - width_px - 18))
    y = min(max(0, int(at[1])), max(0, height - _LABEL_PX))
    strip = canvas[y : y + _LABEL_PX, x : x + width_px + 18]
    strip[:] = (strip * 0.25).astype(np.uint8)
    write_text(cv2, strip, text, x=6, size=0.5, colour=colour)


def _line(
    cv2: Any, width_px: int, camera: CameraTarget, seen: Observation, model: OpenModel
) -> NDArray[np.uint8]:
    """Return the strip above the picture: name, size and rate; model and threshold."""
    strip = np.full((_LINE_PX, width_px, 3), BACKGROUND, np.uint8)
    manifest, detect = model.bundle.manifest, camera.detect
    threshold = manifest.decoder.score_threshold if detect.threshold is None else detect.threshold
    used_px = write_text(cv2, strip, _latin(camera.name), x=12, size=0.65, colour=TEXT, bold=True)
    text = f"{verdict.facts(seen)}   {manifest.name}, from {threshold:g}"
    rest = strip[:, min(used_px + 16, width_px - 1) :]
    write_text(cv2, rest, _latin(text), x=0, size=0.48, colour=DIM)
    return strip


def _latin(text: str) -> str:
    """OpenCV's fonts have ASCII alone."""
    return text.encode("ascii", "replace").decode()


def _pixels(canvas: NDArray[np.uint8], polygon: Polygon) -> NDArray[np.int32]:
    size = np.array([canvas.shape[1] - 1, canvas.shape[0] - 1])
    corners: NDArray[np.int32] = (np.asarray(polygon, np.float64) * size).round().astype(np.int32)
    return corners


def _write(cv2: Any, path: Path, picture: NDArray[np.uint8]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        good, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
        if not good:
            raise CannotCreate(str(path), fix="report it")
        path.write_bytes(jpeg.tobytes())
    except OSError as error:
        raise CannotCreate(
            str(path), seen=error.strerror, fix="give --save a directory you may write"
        ) from error
