"""What weather, night, cheap cameras and thin lines do to pictures, in three severities each.

The corruptions are those of Albumentations (nrtk-albumentations, the fork that is still kept). The names follow
ImageNet-C (Hendrycks and Dietterich 2019); the strengths are of surveillance cameras: "dark" at 3 is gamma 3, a
shutter that lets 0.38 of the light in, and sensor noise of 8 in 255.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange

from agent.preprocess import colour_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

SEVERITIES = (1, 2, 3)
_LINES = 480
"""Lengths in pixels are for pictures of so many lines, and grow with them."""


@dataclass(frozen=True, slots=True)
class Corruption:
    """One way to spoil a picture. `steps(severity, scale)` are Albumentations' transforms; `scale` = lines / 480."""

    name: str
    says: str
    steps: Callable[[int, float], list[Any]]


def corrupt(pixels: NDArray[np.uint8], name: str, severity: int, *, seed: int) -> NDArray[np.uint8]:
    """Return `pixels` (h, w, 3) uint8 RGB spoiled; the same seed gives the same picture."""
    spoil = _transform(name, severity, pixels.shape[0])
    spoil.set_random_seed(seed)
    spoiled: NDArray[np.uint8] = spoil(image=pixels)["image"]
    return spoiled


def pixels_of(picture: av.VideoFrame) -> NDArray[np.uint8]:
    """Return `picture` as (h, w, 3) uint8 RGB, its colours read as the agent's preprocessing reads them."""
    matrix, colour_range = colour_of(picture)
    rgb = picture.reformat(
        format="rgb24",
        src_colorspace=matrix,
        src_color_range=colour_range,
        dst_color_range=ColorRange.JPEG,
    )
    return rgb.to_ndarray().astype(np.uint8, copy=False)


def picture_of(pixels: NDArray[np.uint8]) -> av.VideoFrame:
    """Return (h, w, 3) uint8 RGB as a picture that the preprocessing takes."""
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")


@lru_cache(maxsize=256)
def _transform(name: str, severity: int, lines: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of versions that it would rather have
        import albumentations

        steps = CORRUPTIONS[name].steps(severity, lines / _LINES)
        return albumentations.Compose(steps, seed=0)


def _of(*values: Any) -> Mapping[int, Any]:
    return dict(zip(SEVERITIES, values, strict=True))


def _noise(severity: int, scale: float) -> list[Any]:  # noqa: ARG001 - noise is of pixels, whatever their size
    import albumentations as alb

    sigma = _of(0.05, 0.10, 0.20)[severity]
    return [alb.GaussNoise(std_range=(sigma, sigma), p=1)]


def _blur(severity: int, scale: float) -> list[Any]:
    import albumentations as alb

    sigma_px = _of(1.5, 3.0, 5.0)[severity] * scale
    return [alb.GaussianBlur(blur_limit=0, sigma_limit=(sigma_px, sigma_px), p=1)]


def _dark(severity: int, scale: float) -> list[Any]:  # noqa: ARG001
    import albumentations as alb

    gamma, light, sigma = _of((1.5, 0.7, 0.01), (2.0, 0.5, 0.02), (3.0, 0.38, 8 / 255))[severity]
    return [
        alb.RandomGamma(gamma_limit=(100 * gamma, 100 * gamma), p=1),
        alb.MultiplicativeNoise(multiplier=(light, light), p=1),
        alb.GaussNoise(std_range=(sigma, sigma), p=1),
    ]


def _fog(severity: int, scale: float) -> list[Any]:  # noqa: ARG001
    """Koschmieder's law (1924) at one distance: pixel * t + airlight * (1 - t)."""
    import albumentations as alb

    seen_through = _of(0.6, 0.4, 0.2)[severity]
    contrast, airlight = seen_through - 1, 0.85 * (1 - seen_through)
    limits = {"brightness_limit": (airlight, airlight), "contrast_limit": (contrast, contrast)}
    return [alb.RandomBrightnessContrast(**limits, brightness_by_max=True, p=1)]


def _rain(severity: int, scale: float) -> list[Any]:
    import albumentations as alb

    kind, light = _of(("drizzle", 0.9), ("heavy", 0.8), ("torrential", 0.7))[severity]
    return [
        alb.RandomRain(
            rain_type=kind,
            drop_length=max(1, round(20 * scale)),
            drop_width=max(1, round(scale)),
            blur_value=max(1, round(3 * scale)),
            brightness_coefficient=light,
            p=1,
        )
    ]


def _jpeg(severity: int, scale: float) -> list[Any]:  # noqa: ARG001
    import albumentations as alb

    quality = _of(30, 15, 7)[severity]
    return [alb.ImageCompression(quality_range=(quality, quality), p=1)]


def _low_resolution(severity: int, scale: float) -> list[Any]:  # noqa: ARG001
    import albumentations as alb

    share = _of(1 / 2, 1 / 3, 1 / 5)[severity]
    pair = {"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_LINEAR}
    return [alb.Downscale(scale_range=(share, share), interpolation_pair=pair, p=1)]


def _colour_cast(severity: int, scale: float) -> list[Any]:  # noqa: ARG001
    import albumentations as alb

    shift = _of(20, 40, 60)[severity]
    warm = {"r_shift_limit": (shift, shift), "g_shift_limit": (0, 0), "b_shift_limit": (-shift, -shift)}
    return [alb.RGBShift(**warm, p=1)]


CORRUPTIONS: Mapping[str, Corruption] = {
    each.name: each
    for each in (
        Corruption("noise", "sensor noise", _noise),
        Corruption("blur", "out of focus, or a dirty lens", _blur),
        Corruption("dark", "night", _dark),
        Corruption("fog", "fog", _fog),
        Corruption("rain", "rain", _rain),
        Corruption("jpeg", "strong compression", _jpeg),
        Corruption("low resolution", "a half, a third, a fifth of the lines", _low_resolution),
        Corruption("colour cast", "warm lamps", _colour_cast),
    )
}
