"""Small clips made on the spot, sound and broken."""

from __future__ import annotations

import fractions
from typing import TYPE_CHECKING

import av
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

TICKS = 50000


def pictures(count: int, size: tuple[int, int]) -> list[av.VideoFrame]:
    """Return `count` pictures of something that moves."""
    width, height = size
    x, y = np.arange(width), np.arange(height * 3 // 2)[:, None]
    return [
        av.VideoFrame.from_ndarray(((x * 3 + y + 9 * n) % 200 + 20).astype(np.uint8), format="yuv420p")
        for n in range(count)
    ]


def write_clip(
    path: Path,
    pts_s: Iterable[float],
    *,
    size: tuple[int, int] = (64, 48),
    bframes: int = 0,
    gop: int = 10,
    fps: int = 10,
    codec: str = "libx264",
) -> Path:
    """Encode one picture for each of `pts_s` (seconds, ascending); its ending chooses the format."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = fractions.Fraction(1, TICKS)
        stream.codec_context.gop_size = gop
        if codec == "libx264":
            params = f"bframes={bframes}:b-adapt=0:scenecut=0:threads=1:keyint={gop}:min-keyint={gop}"
            stream.codec_context.options = {"preset": "ultrafast", "x264-params": params}
        wanted = list(pts_s)
        for picture, at_s in zip(pictures(len(wanted), size), wanted, strict=True):
            picture.pts, picture.time_base = round(at_s * TICKS), fractions.Fraction(1, TICKS)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return path


def even(count: int, *, fps: int = 10) -> list[float]:
    """Return `count` PTS at `fps`, from 0."""
    return [n / fps for n in range(count)]


def write_audio(path: Path) -> Path:
    """Write a second of silence: a sound file without video."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path
