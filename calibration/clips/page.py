"""The page of a set: where its pictures come from, histograms, thumbnails; one file, nothing fetched."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from av.video.reformatter import ColorRange, Interpolation
from jinja2 import Environment, PackageLoader, StrictUndefined

from agent.drawing import require_opencv
from agent.preprocess import colour_of
from calibration.clips.pictureset import Picture, load_frame
from calibration.wording import counted

if TYPE_CHECKING:
    from pathlib import Path

    from calibration.clips.looks import Looks
    from calibration.clips.pictureset import Kept, SetRecord

_WIDTH_PX, _QUALITY = 144, 60
_BINS = 16


@dataclass(frozen=True, slots=True)
class Histogram:
    """Shares 0..1 of the pictures in bins between `low` and `high`, a row of bins for each of `names`."""

    title: str
    low: str
    high: str
    names: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]

    @property
    def top(self) -> float:
        """The largest share."""
        return max(max(row) for row in self.shares) or 1.0


def render(folder: Path, record: SetRecord, looks: Looks) -> bytes:
    """Return the page of the set in `folder`; `looks` are all pictures that were looked at. Raises AgentError."""
    environment = Environment(
        loader=PackageLoader("calibration.clips"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["counted"] = counted
    thumbnails = {
        split: [(kept, _thumbnail(folder, kept)) for kept in record.pictures if kept.split == split]
        for split in ("calibrate", "verify")
    }
    page = environment.get_template("clips.html").render(
        record=record, histograms=_histograms(record, looks), thumbnails=thumbnails
    )
    return page.encode()


def _histograms(record: SetRecord, looks: Looks) -> list[Histogram]:
    def histogram(title: str, name: str, top: float, unit: str) -> Histogram:
        taken = [
            np.array([getattr(kept, name) for kept in record.pictures if kept.split == split])
            for split in ("calibrate", "verify")
        ]
        rows = [getattr(looks, name), *taken]
        shares = [np.histogram(np.clip(row, 0, top), _BINS, (0, top))[0] / max(1, len(row)) for row in rows]
        names = ("looked at", "calibrate", "verify")
        return Histogram(
            title, "0", f"{top:g}{unit}", names, tuple(tuple(float(x) for x in row) for row in shares)
        )

    return [
        histogram("Brightness", "brightness", 255.0, ""),
        histogram("Contrast", "contrast", 128.0, ""),
        histogram("Motion: share of the picture that changed", "motion", 1.0, ""),
    ]


def _thumbnail(folder: Path, kept: Kept) -> str:
    """Return a small JPEG as a data URL."""
    frame = load_frame(Picture(folder / kept.file, kept.clip, kept.seq, kept.pts_s, kept.sha256, kept.split))
    picture = frame.picture
    matrix, colour_range = colour_of(picture)
    small = picture.reformat(
        width=_WIDTH_PX,
        height=max(1, round(_WIDTH_PX * picture.height / picture.width)),
        format="bgr24",
        src_colorspace=matrix,
        src_color_range=colour_range,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.AREA,
        threads=1,
    ).to_ndarray()
    cv2 = require_opencv("the page of a set")
    _, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()
