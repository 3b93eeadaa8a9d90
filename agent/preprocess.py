"""From the decoder's YUV to the model's input: one scaling pass, then one pass that quantizes into place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from agent.errors import BadData
from agent.messages import Geometry, ModelInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from agent.bundle.manifest import InputSpec
    from agent.messages import TensorSpec

_HD_LINES = 720
"""Untagged pictures of this height and up are BT.709, below BT.601, as players assume."""

# PyAV 17 (the last for Python 3.10) can't name BT.2020's matrix; BT.709's is the nearest.
_BT2020 = getattr(Colorspace, "BT2020", Colorspace.ITU709)
# AVColorSpace (what a stream is tagged with, H.273 matrix coefficients) -> swscale's name of the matrix.
_MATRIX = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: _BT2020,
    10: _BT2020,
}

_INTERPOLATION = {
    "area": Interpolation.AREA,
    "bilinear": Interpolation.BILINEAR,
    "fast_bilinear": Interpolation.FAST_BILINEAR,
    "bicubic": Interpolation.BICUBIC,
    "lanczos": Interpolation.LANCZOS,
    "point": Interpolation.POINT,
}


@dataclass(frozen=True, slots=True)
class Placement:
    """How a frame of one size goes into the input, all in input pixels.

    The whole frame is scaled to `scaled` (w, h); the window `crop` (x, y, w, h) of that lands at `at` (x, y).
    """

    scaled: tuple[int, int]
    crop: tuple[int, int, int, int]
    at: tuple[int, int]


def place(resize: str, frame: tuple[int, int], target: tuple[int, int]) -> Placement:
    """Return where a frame of size `frame` (w, h) goes in an input of size `target` (w, h)."""
    (fw, fh), (tw, th) = frame, target
    if resize == "stretch":
        return Placement(target, (0, 0, tw, th), (0, 0))
    if resize == "center_crop":
        scale = max(tw / fw, th / fh)
        w, h = max(tw, round(fw * scale)), max(th, round(fh * scale))
        return Placement((w, h), ((w - tw) // 2, (h - th) // 2, tw, th), (0, 0))
    scale = min(tw / fw, th / fh)
    # Each as its models were trained: YOLOX cuts sizes off (its preproc), Ultralytics rounds (its LetterBox).
    whole: Callable[[float], int] = round if resize == "letterbox_center" else int
    w, h = max(1, min(tw, whole(fw * scale))), max(1, min(th, whole(fh * scale)))
    # An odd line of padding goes right and below: Ultralytics' round(pad / 2 - 0.1).
    at = ((tw - w) // 2, (th - h) // 2) if resize == "letterbox_center" else (0, 0)
    return Placement((w, h), (0, 0, w, h), at)


def geometry_of(placement: Placement, target: tuple[int, int]) -> Geometry:
    """Return the map from fractions of the frame to fractions of the input for `placement`."""
    (w, h), (cx, cy, _, _), (x, y) = placement.scaled, placement.crop, placement.at
    tw, th = target
    return Geometry(w / tw, h / th, (x - cx) / tw, (y - cy) / th)


def colour_of(picture: av.VideoFrame) -> tuple[Colorspace, ColorRange]:
    """Return matrix and range of `picture`: as tagged, else by its height and limited (full for yuvj*)."""
    untagged = Colorspace.ITU709 if picture.height >= _HD_LINES else Colorspace.ITU601
    matrix = _MATRIX.get(int(picture.colorspace), untagged)
    if picture.color_range in (ColorRange.MPEG, ColorRange.JPEG):
        return matrix, ColorRange(picture.color_range)
    return matrix, ColorRange.JPEG if picture.format.name.startswith("yuvj") else ColorRange.MPEG


class Preprocessor:
    """Turns pictures of any size and YUV format into the input of one model.

    The scaler runs on the calling thread alone: one with threads of its own fights the engine for the cores.
    `lend` gives the arrays to write to, such as memory of the engine itself; None: new ones. Raises BadData
    at construction when the engine's input is not what the manifest says.
    """

    def __init__(
        self,
        spec: InputSpec,
        tensor: TensorSpec,
        *,
        layout: str,
        lend: Callable[[], NDArray[Any]] | None = None,
    ) -> None:
        self._target = spec.width, spec.height
        self._resize = spec.resize
        self._interpolation = _INTERPOLATION[spec.interpolation]
        self._nchw = layout == "nchw"
        self._format = "bgr24" if spec.colour == "bgr" else "rgb24"
        self._shape = _checked_shape(spec, tensor, nchw=self._nchw)
        self._dtype = tensor.dtype
        self._lend = lend or (lambda: np.empty(self._shape, self._dtype))
        self._write = _writer(spec, tensor)
        self._pad = np.full(self._shape, 0, self._dtype)
        self._write(np.full((spec.height, spec.width, 3), spec.pad, np.uint8), self._as_hwc(self._pad))
        self._scaler = VideoReformatter()
        self._placements: dict[tuple[int, int], tuple[Placement, Geometry]] = {}

    def __call__(self, picture: av.VideoFrame) -> ModelInput:
        """Scale, place and quantize `picture`; the tensor is the caller's own."""
        placement, geometry = self._placement(picture.width, picture.height)
        pixels = self._scale(picture, placement.scaled)
        (cx, cy, w, h), (x, y) = placement.crop, placement.at
        tensor = self._lend()
        if (w, h) != self._target:
            np.copyto(tensor, self._pad)
        self._write(pixels[cy : cy + h, cx : cx + w], self._as_hwc(tensor)[y : y + h, x : x + w])
        return ModelInput(tensor, geometry)

    def fill(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """Return the input made of `pixels` (height, width, 3), already of its size and in its colour order."""
        tensor = self._lend()
        self._write(pixels, self._as_hwc(tensor))
        return tensor

    def _placement(self, width: int, height: int) -> tuple[Placement, Geometry]:
        known = self._placements.get((width, height))
        if known is None:
            placement = place(self._resize, (width, height), self._target)
            known = placement, geometry_of(placement, self._target)
            self._placements = {(width, height): known}
        return known

    def _scale(self, picture: av.VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
        matrix, colour_range = colour_of(picture)
        try:
            scaled = self._scaler.reformat(
                picture,
                width=size[0],
                height=size[1],
                format=self._format,
                src_colorspace=matrix,
                src_color_range=colour_range,
                dst_color_range=ColorRange.JPEG,
                interpolation=self._interpolation,
                threads=1,
            )
        except (av.FFmpegError, ValueError) as error:
            seen = f"{picture.format.name} {picture.width}x{picture.height} ({error})"
            raise BadData(
                "pictures of this kind can't be scaled", seen=seen, fix="use another format"
            ) from error
        plane = scaled.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(size[1], plane.line_size)  # type: ignore[call-overload]
        pixels: NDArray[np.uint8] = rows[:, : size[0] * 3].reshape(size[1], size[0], 3)
        return pixels

    def _as_hwc(self, tensor: NDArray[Any]) -> NDArray[Any]:
        view: NDArray[Any] = tensor[0].transpose(1, 2, 0) if self._nchw else tensor[0]
        return view


def _checked_shape(spec: InputSpec, tensor: TensorSpec, *, nchw: bool) -> tuple[int, ...]:
    shape = (1, 3, spec.height, spec.width) if nchw else (1, spec.height, spec.width, 3)
    if tensor.shape != shape:
        raise BadData(
            "model input shape",
            seen=tensor.shape,
            fix=f"the manifest says {shape}: correct [input] or layout",
        )
    if tensor.dtype not in (np.dtype(np.uint8), np.dtype(np.int8), np.dtype(np.float32)):
        raise BadData(
            "model input type", seen=tensor.dtype, fix="use a model with uint8, int8 or float32 input"
        )
    return shape


def _writer(spec: InputSpec, tensor: TensorSpec) -> Any:
    """Return `write(pixels (h, w, 3) uint8, out (h, w, 3))` for this normalization and quantization."""
    mean, std = np.asarray(spec.mean, np.float64), np.asarray(spec.std, np.float64)
    if tensor.dtype == np.float32:
        gain, bias = (1.0 / std).astype(np.float32), (-mean / std).astype(np.float32)

        def normalize(pixels: NDArray[np.uint8], out: NDArray[Any]) -> None:
            np.multiply(pixels, gain, out=out, dtype=np.float32)
            if bias.any():
                out += bias

        return normalize
    table = quantization_table(mean, std, tensor)
    flip = {np.dtype(np.uint8): 0, np.dtype(np.int8): 0x80}[tensor.dtype]
    if (table.view(np.uint8) == (np.arange(256, dtype=np.uint8) ^ flip)[:, None]).all():
        # Pixels are the quantized input up to the sign bit, as in most INT8 detectors: 8 us instead of 500.
        return lambda pixels, out: np.bitwise_xor(pixels, flip, out=out.view(np.uint8))

    def look_up(pixels: NDArray[np.uint8], out: NDArray[Any]) -> None:
        for channel in range(3):
            out[..., channel] = table[:, channel][pixels[..., channel]]

    return look_up


def quantization_table(
    mean: NDArray[np.float64], std: NDArray[np.float64], tensor: TensorSpec
) -> NDArray[Any]:
    """Return the stored input value of each pixel value and channel, (256, 3) in the tensor's dtype.

    A tie goes up: with scales such as 1/127.5 every value is one, and split by the noise of its last digits
    the picture would be quantized at random. A tensor without scale takes the normalized value as it is.
    """
    real = (np.arange(256)[:, None] - mean) / std
    stored = real / tensor.scale + tensor.zero_point if tensor.scale else real
    limits = np.iinfo(tensor.dtype)
    stored = np.floor(stored.round(3) + 0.5)
    table: NDArray[Any] = np.clip(stored, limits.min, limits.max).astype(tensor.dtype)
    return table
