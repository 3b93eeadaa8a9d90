"""Scenes for tests of the choice of pictures: clips and images made on the spot."""

from __future__ import annotations

import fractions
from typing import TYPE_CHECKING

import av
import numpy as np

from calibration.clips.looks import Looks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SIZE = 192, 144
FPS = 5


def scene(number: int, *, level: int = 110, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """Return luma (height, width) of scene `number`: no two numbers look alike."""
    width, height = size
    random = np.random.default_rng(number)
    coarse = random.integers(-60, 60, (6, 8)).repeat(height // 6, axis=0).repeat(width // 8, axis=1)
    return np.clip(coarse + level, 0, 255).astype(np.uint8)


def frame(luma: NDArray[np.uint8], chroma: int = 128) -> av.VideoFrame:
    """Return a yuv420p picture of that luma."""
    colour = np.full((luma.shape[0] // 2, luma.shape[1]), chroma, np.uint8)
    return av.VideoFrame.from_ndarray(np.vstack([luma, colour]), format="yuv420p")


def write_clip(path: Path, lumas: Iterable[NDArray[np.uint8]], *, fps: int = FPS, crf: int = 10) -> Path:
    """Encode the pictures as H.264, the whole of the file the same for the same pictures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as out:
        stream = out.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        params = f"threads=1:crf={crf}:keyint={fps}"
        stream.codec_context.options = {"preset": "ultrafast", "x264-params": params}
        for number, luma in enumerate(lumas):
            picture = frame(luma)
            picture.pts, picture.time_base = number, fractions.Fraction(1, fps)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return path


def write_image(path: Path, luma: NDArray[np.uint8]) -> Path:
    """Write a JPEG or PNG, as the ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codec, pixels = ("png", "rgb24") if path.suffix == ".png" else ("mjpeg", "yuvj420p")
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = luma.shape[1], luma.shape[0], pixels
    context.time_base = fractions.Fraction(1, 1)
    picture = frame(luma).reformat(format=pixels)
    picture.pts = 0
    path.write_bytes(b"".join(bytes(p) for p in [*context.encode(picture), *context.encode(None)]))
    return path


def looks(brightness: Sequence[float], motion: Sequence[float] | None = None) -> Looks:
    """Return rows of that brightness and motion, each with blocks, colours and edges of its own."""
    n = len(brightness)
    random = np.random.default_rng(7)
    light = np.array(brightness, np.float32)
    texture = random.integers(0, 40, (n, 18, 24))
    return Looks(
        seq=np.arange(n),
        pts_s=np.arange(n) / FPS,
        blocks=np.clip(light[:, None, None] + texture, 0, 255).astype(np.uint8),
        brightness=light,
        contrast=random.uniform(20, 22, n).astype(np.float32),
        motion=np.zeros(n, np.float32) if motion is None else np.array(motion, np.float32),
        colours=random.normal(0, 1, (n, 36)).astype(np.float32),
        edges=random.normal(0, 1, (n, 48)).astype(np.float32),
    )
