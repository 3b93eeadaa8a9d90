"""Scaling, placing, colour and quantization of the model input, against plain float references."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import BadData
from agent.messages import TensorSpec
from agent.preprocess import Preprocessor, geometry_of, place, quantization_table

KR_KB = {"601": (0.299, 0.114), "709": (0.2126, 0.0722)}


def spec(**changes: Any) -> Any:
    """Return an input section with sensible values."""
    values = {
        "width": 32,
        "height": 32,
        "colour": "rgb",
        "resize": "stretch",
        "interpolation": "area",
        "pad": 114,
    }
    return SimpleNamespace(**(values | {"mean": [0.0] * 3, "std": [1.0] * 3} | changes))


def tensor(
    dtype: type, shape: tuple[int, ...] = (1, 32, 32, 3), scale: float = 0.0, zero: int = 0
) -> TensorSpec:
    return TensorSpec("x", shape, np.dtype(dtype), scale, zero)


def picture(y: int, u: int, v: int, size: tuple[int, int] = (64, 64), fmt: str = "yuv420p") -> av.VideoFrame:
    """Return a picture of one colour."""
    made = av.VideoFrame(*size, fmt)
    for plane, value in zip(made.planes, (y, u, v), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    return made


def rgb_of(y: int, u: int, v: int, matrix: str, *, full: bool) -> np.ndarray:
    """Convert by the textbook (ITU-T H.273)."""
    kr, kb = KR_KB[matrix]
    luma = y / 255 if full else (y - 16) / 219
    cb, cr = ((c - 128) / (255 if full else 224) for c in (u, v))
    r, b = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
    return np.array([r, (luma - kr * r - kb * b) / (1 - kr - kb), b]) * 255


@pytest.mark.parametrize(
    ("height", "tag", "colour_range", "fmt", "matrix", "full"),
    [
        (64, None, None, "yuv420p", "601", False),
        (720, None, None, "yuv420p", "709", False),
        (64, 1, None, "yuv420p", "709", False),
        (720, 6, None, "yuv420p", "601", False),
        (64, None, 2, "yuv420p", "601", True),
        (64, None, None, "yuvj420p", "601", True),
        (720, None, 1, "yuv420p", "709", False),
    ],
)
def test_colour_follows_the_tags_and_the_height(
    height: int, tag: int | None, colour_range: int | None, fmt: str, matrix: str, full: bool
) -> None:
    """Matrix and range come from the stream's tags; untagged: 709 from 720 lines up, 601 below, limited range."""
    made = picture(120, 90, 190, (64, height), fmt)
    if tag is not None:
        made.colorspace = tag
    if colour_range is not None:
        made.color_range = colour_range
    got = Preprocessor(spec(), tensor(np.uint8), layout="nhwc")(made).tensor[0, 16, 16]
    assert np.abs(got - rgb_of(120, 90, 190, matrix, full=full)).max() <= 3


def test_bgr_nchw_float_is_the_same_picture() -> None:
    """Channel order, layout and normalization only rearrange and scale the same pixels.

    swscale's routines for the two orders round differently, by up to 5 of 255.
    """
    made = picture(120, 90, 190)
    rgb = Preprocessor(spec(), tensor(np.uint8), layout="nhwc")(made).tensor
    bgr = Preprocessor(spec(colour="bgr"), tensor(np.uint8), layout="nhwc")(made).tensor
    assert np.abs(bgr.astype(int) - rgb[..., ::-1]).max() <= 5
    normal = spec(mean=[10.0, 20.0, 30.0], std=[2.0, 4.0, 8.0])
    nchw = Preprocessor(normal, tensor(np.float32, (1, 3, 32, 32)), layout="nchw")(made).tensor
    expected = (rgb.astype(np.float64) - normal.mean) / normal.std
    assert np.allclose(nchw, expected.transpose(0, 3, 1, 2), atol=1e-4)


def test_letterbox_pads_with_the_quantized_pad_value() -> None:
    """The unused part of a letterboxed int8 input holds the pad value, top-left or centred."""
    made = picture(235, 128, 128, (64, 32))
    int8 = tensor(np.int8, scale=1.0, zero=-128)
    corner = Preprocessor(spec(resize="letterbox"), int8, layout="nhwc")(made).tensor[0].astype(int) + 128
    assert (corner[16:] == 114).all()
    assert (corner[:16] > 250).all()
    centred = (
        Preprocessor(spec(resize="letterbox_center"), int8, layout="nhwc")(made).tensor[0].astype(int) + 128
    )
    assert (centred[:8] == 114).all()
    assert (centred[24:] == 114).all()
    assert (centred[8:24] > 250).all()


def test_a_picture_of_another_size_is_placed_anew() -> None:
    """When the stream changes its resolution the geometry follows."""
    made = Preprocessor(spec(resize="letterbox"), tensor(np.uint8), layout="nhwc")
    assert made(picture(90, 128, 128, (64, 32))).geometry.scale_y == 0.5
    assert made(picture(90, 128, 128, (32, 64))).geometry.scale_x == 0.5


@pytest.mark.parametrize(
    ("resize", "frame", "target", "scaled", "at"),
    [
        ("letterbox_center", (1279, 719), (640, 640), (640, 360), (0, 140)),
        ("letterbox_center", (500, 333), (640, 640), (640, 426), (0, 107)),
        ("letterbox_center", (333, 500), (640, 640), (426, 640), (107, 0)),
        ("letterbox_center", (1000, 555), (640, 640), (640, 355), (0, 142)),
        ("letterbox_center", (1000, 557), (640, 640), (640, 356), (0, 142)),
        ("letterbox", (1279, 719), (640, 640), (640, 359), (0, 0)),
        ("letterbox", (1000, 557), (640, 640), (640, 356), (0, 0)),
    ],
)
def test_letterboxes_are_those_of_the_training(
    resize: str, frame: tuple[int, int], target: tuple[int, int], scaled: tuple[int, int], at: tuple[int, int]
) -> None:
    """The centred letterbox rounds and splits as Ultralytics' does, the other cuts off as YOLOX's does."""
    placement = place(resize, frame, target)
    assert (placement.scaled, placement.at) == (scaled, at)
    if resize == "letterbox_center":
        gap = [(whole - part) / 2 for whole, part in zip(target, scaled, strict=True)]
        assert placement.at == tuple(round(half - 0.1) for half in gap)


SIZES = st.tuples(st.integers(2, 4000), st.integers(2, 4000))
TARGETS = st.tuples(st.integers(8, 1024), st.integers(8, 1024))


@given(st.sampled_from(["letterbox", "letterbox_center", "stretch", "center_crop"]), SIZES, TARGETS)
def test_placement_stays_inside_and_maps_corners_back(
    resize: str, frame: tuple[int, int], target: tuple[int, int]
) -> None:
    """Any frame fits any input, and a point of the input maps back to the pixel of the frame it came from."""
    placement = place(resize, frame, target)
    (cx, cy, w, h), (x, y) = placement.crop, placement.at
    assert 0 <= cx <= placement.scaled[0] - w
    assert 0 <= cy <= placement.scaled[1] - h
    assert 0 <= x <= target[0] - w
    assert 0 <= y <= target[1] - h
    geometry = geometry_of(placement, target)
    corner = np.array([[x / target[0], y / target[1], (x + w) / target[0], (y + h) / target[1]]], np.float32)
    sw, sh = placement.scaled
    expected = [cx / sw, cy / sh, (cx + w) / sw, (cy + h) / sh]
    assert np.allclose(geometry.to_frame(corner)[0], expected, atol=1e-3)


@given(
    st.floats(0.001, 0.2),
    st.integers(-128, 127),
    st.floats(0, 200),
    st.floats(0.5, 255),
    st.sampled_from([np.int8]),
)
def test_quantization_table_is_the_formula(
    scale: float, zero: int, mean: float, std: float, dtype: type
) -> None:
    """Every pixel value becomes round((p - mean) / std / scale + zero), within half a step."""
    spec_ = tensor(dtype, scale=scale, zero=zero)
    table = quantization_table(np.full(3, mean), np.full(3, std), spec_)[:, 0].astype(float)
    exact = np.clip((np.arange(256) - mean) / std / scale + zero, -128, 127)
    assert np.abs(table - exact).max() <= 0.501


def test_general_quantization_equals_the_table() -> None:
    """A scale that is no mere sign flip goes through the look-up, channel by channel."""
    made = picture(120, 90, 190)
    rgb = Preprocessor(spec(), tensor(np.uint8), layout="nhwc")(made).tensor
    odd = spec(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4])
    int8 = tensor(np.int8, scale=0.02, zero=-3)
    table = quantization_table(np.array(odd.mean), np.array(odd.std), int8)
    got = Preprocessor(odd, int8, layout="nhwc")(made).tensor
    assert (got == np.stack([table[:, c][rgb[..., c]] for c in range(3)], axis=-1)).all()


def test_an_input_that_contradicts_the_manifest_is_refused() -> None:
    """Shape and type of the model's input are checked against the manifest, with both values in the message."""
    with pytest.raises(BadData, match=r"\(1, 3, 32, 32\).*\(1, 32, 32, 3\)"):
        Preprocessor(spec(), tensor(np.uint8, (1, 3, 32, 32)), layout="nhwc")
    with pytest.raises(BadData, match="float64"):
        Preprocessor(spec(), tensor(np.float64), layout="nhwc")
