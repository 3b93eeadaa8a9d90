"""Driver buffers as pictures."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.capture.pixels import PLANES, copied, unpacker
from agent.errors import BadData

SIZES = st.tuples(st.integers(2, 70), st.integers(2, 40))


def plane_rows(pixel_format: str, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return rows and bytes a row of each plane, written anew from the formats' definitions."""
    width, height = size
    half_width, half_height = (width + 1) // 2, (height + 1) // 2
    if pixel_format == "yuv420p":
        return [(height, width), (half_height, half_width), (half_height, half_width)]
    if pixel_format == "nv12":
        return [(height, width), (half_height, 2 * half_width)]
    if pixel_format in ("yuyv422", "uyvy422"):
        return [(height, 4 * half_width)]
    return [(height, width * {"gray": 1}.get(pixel_format, 3))]


@given(st.sampled_from(sorted(PLANES)), SIZES, st.integers(0, 40), st.integers(0, 9))
def test_pixels_are_copied_row_by_row(
    pixel_format: str, size: tuple[int, int], padding: int, gap: int
) -> None:
    """Whatever stride and offsets the driver has, each row of each plane is the same bytes."""
    rng = np.random.default_rng(1)
    planes = [
        rng.integers(0, 256, (rows, width + padding), np.uint8)
        for rows, width in plane_rows(pixel_format, size)
    ]
    data = np.concatenate([np.concatenate([p.ravel(), np.zeros(gap, np.uint8)]) for p in planes])
    offsets = np.cumsum([0, *(p.size + gap for p in planes)])[: len(planes)].tolist()
    frame = copied(data, size, pixel_format, [p.shape[1] for p in planes], offsets)
    data[:] = 0
    for plane, out in zip(planes, frame.planes, strict=True):
        rows, width = plane.shape[0], plane.shape[1] - padding
        got = np.frombuffer(out, np.uint8).reshape(-1, out.line_size)[:rows, :width]
        assert (got == plane[:, :width]).all()
    assert (frame.width, frame.height, frame.format.name) == (*size, pixel_format)


@given(st.sampled_from(sorted(PLANES)), SIZES)
def test_a_short_buffer_is_refused(pixel_format: str, size: tuple[int, int]) -> None:
    """One byte less than a picture has is BadData, never a read past the end."""
    rows = plane_rows(pixel_format, size)
    data = np.zeros(sum(r * w for r, w in rows) - 1, np.uint8)
    with pytest.raises(BadData, match="bytes missing"):
        copied(data, size, pixel_format, [w for _, w in rows])


def jpeg() -> bytes:
    """Return a grey JPEG of 64x48."""
    target = io.BytesIO()
    with av.open(target, "w", format="mjpeg") as out:
        stream = out.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        frame = av.VideoFrame.from_ndarray(np.full((72, 64), 128, np.uint8), format="yuvj420p")
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return target.getvalue()


def test_jpegs_and_raw_pictures_are_unpacked() -> None:
    """A damaged JPEG or a short buffer is None, and the next whole one is a picture again."""
    whole = np.frombuffer(jpeg(), np.uint8)
    unpack = unpacker("mjpeg", (64, 48), 0)
    for data, good in ((whole, True), (np.zeros(50, np.uint8), False), (whole, True)):
        picture = unpack(data)
        assert (picture is not None) == good
        if picture is not None:
            assert (picture.width, picture.height) == (64, 48)
    for pixel_format in PLANES:
        stride = plane_rows(pixel_format, (64, 48))[0][1]
        unpack = unpacker(pixel_format, (64, 48), stride)
        assert unpack(np.zeros(10, np.uint8)) is None
        assert unpack(np.zeros(stride * 48 * 2, np.uint8)) is not None
