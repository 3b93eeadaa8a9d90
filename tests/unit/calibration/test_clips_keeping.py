"""A picture that is kept comes back as it was: the preprocessor sees the same pixels."""

from __future__ import annotations

import av
import numpy as np
import pytest

from agent.bundle.manifest import InputSpec
from agent.capture import open_source
from agent.messages import TensorSpec
from agent.preprocess import Preprocessor, colour_of
from calibration.clips.keeping import encoded

PLANAR = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuv411p", "gray", "yuv420p10le")
PACKED = ("nv12", "nv21", "nv16", "yuyv422", "uyvy422", "p010le", "rgb24", "bgr24", "rgba", "bgra")


def colourful(width: int = 98, height: int = 66) -> av.VideoFrame:
    """Return an RGB picture with fine structure in all colours."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (height // 6, width // 7, 3)).repeat(6, axis=0).repeat(7, axis=1)
    return av.VideoFrame.from_ndarray(coarse.astype(np.uint8), format="rgb24")


def seen(picture: av.VideoFrame) -> np.ndarray:
    """Return what the network would get."""
    spec = InputSpec(width=64, height=48)
    tensor = TensorSpec("in", (1, 48, 64, 3), np.dtype(np.float32))
    return Preprocessor(spec, tensor, layout="nhwc")(picture).tensor


def first(path) -> av.VideoFrame:
    """Return the first picture of a file as the agent's capture gives it."""
    source = open_source(str(path), camera="test", pace="fastest")
    try:
        return next(source.frames()).picture
    finally:
        source.close()


@pytest.mark.parametrize("pixel_format", PLANAR + PACKED)
@pytest.mark.parametrize("tags", [(2, 0), (1, 1), (5, 2), (9, 1)])
def test_every_format_comes_back(tmp_path, pixel_format, tags):
    """With its matrix and range, to the last bit, and the same picture gives the same bytes."""
    picture = colourful().reformat(format=pixel_format)
    picture.colorspace, picture.color_range = tags[0], 2 if pixel_format.startswith("yuvj") else tags[1]
    stored = encoded(picture)
    (tmp_path / "one.mkv").write_bytes(stored)
    back = first(tmp_path / "one.mkv")
    assert colour_of(back) == colour_of(picture)
    assert np.array_equal(seen(back), seen(picture))
    assert encoded(picture) == stored


def test_a_frame_of_h264_comes_back(tmp_path):
    """Its chroma lies at the left, which no attribute of the frame tells."""
    with av.open(str(tmp_path / "clip.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = 98, 66, "yuv420p"
        out.mux(stream.encode(colourful().reformat(format="yuv420p")))
        out.mux(stream.encode(None))
    picture = first(tmp_path / "clip.mp4")
    (tmp_path / "one.mkv").write_bytes(encoded(picture))
    assert np.array_equal(seen(first(tmp_path / "one.mkv")), seen(picture))
