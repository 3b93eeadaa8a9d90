"""What a picture is worth: covered, empty and frozen ones are told from dark, plain and still ones."""

from __future__ import annotations

import fractions
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.picture import BLACK, FROZEN, GREEN, GREY, PLAIN, SOUND, Flaw, PictureWatch, flaw_of, sample_of
from agent.starter import sample_clip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Luma = NDArray[Any]

SIZES = [(640, 360), (1920, 1080), (176, 144)]
RNG = np.random.default_rng(7)
FPS = 10


def picture(luma: Luma, u: float = 128, v: float = 128) -> av.VideoFrame:
    """Return a picture with that luma (height, width), cut to 0..255, and chroma."""
    height, width = luma.shape
    chroma = np.concatenate([np.full((height // 4, width), c, np.uint8) for c in (u, v)])
    planes = np.vstack([np.clip(luma, 0, 255).astype(np.uint8), chroma])
    return av.VideoFrame.from_ndarray(planes, format="yuv420p")


def flat(size: tuple[int, int], level: float, noise: float = 0.0) -> Luma:
    """Return one grey level with sensor noise."""
    width, height = size
    return np.maximum(16, level + RNG.normal(0, noise, (height, width)))


def scene(size: tuple[int, int] = (320, 180), noise: float = 0.0) -> Luma:
    """Return shapes and texture with sensor noise."""
    width, height = size
    x, y = np.arange(width), np.arange(height)[:, None]
    luma = 90 + 60 * np.sin(x / 37) + 40 * np.cos(y / 23) + 20 * np.sin((x + y) / 5)
    return np.clip(luma + RNG.normal(0, noise, luma.shape), 16, 235)


def judged(shown: av.VideoFrame) -> Flaw:
    sample = sample_of(shown)
    assert sample is not None
    return flaw_of(sample)


def encoded(
    lumas: Iterator[Luma], *, gop: int = 10, bit_rate: int = 0, **options: str
) -> list[av.VideoFrame]:
    """Return what a camera's H.264 makes of the pictures, at `bit_rate` or constant quality."""
    encoder: Any = None
    decoder, shown = av.CodecContext.create("h264", "r"), []
    for number, luma in enumerate(lumas):
        if encoder is None:
            encoder = av.CodecContext.create("libx264", "w")
            (encoder.height, encoder.width), encoder.pix_fmt = luma.shape, "yuv420p"
            encoder.time_base, encoder.framerate = fractions.Fraction(1, FPS), fractions.Fraction(FPS)
            encoder.gop_size = gop
            if bit_rate:
                encoder.bit_rate = bit_rate
            encoder.options = {"preset": "veryfast", "tune": "zerolatency", **options}
        given_one = picture(luma)
        given_one.pts = number
        for packet in encoder.encode(given_one):
            shown += decoder.decode(av.Packet(bytes(packet)))
    return shown


def jpegs(lumas: Iterator[Luma], quality: int) -> list[av.VideoFrame]:
    """Return what a camera's MJPEG makes of the pictures; `quality` is its quantiser, 1 to 31, the worst."""
    decoder, shown = av.CodecContext.create("mjpeg", "r"), []
    encoder: Any = None
    for number, luma in enumerate(lumas):
        if encoder is None:
            encoder = av.CodecContext.create("mjpeg", "w")
            (encoder.height, encoder.width), encoder.pix_fmt = luma.shape, "yuvj420p"
            encoder.time_base = fractions.Fraction(1, FPS)
            encoder.options = {"qmin": str(quality), "qmax": str(quality)}
        given_one = picture(luma).reformat(format="yuvj420p")
        given_one.pts = number
        for packet in encoder.encode(given_one):
            shown += decoder.decode(av.Packet(bytes(packet)))
    return shown


def flaws(shown: list[av.VideoFrame]) -> list[str]:
    """Return the flaw after each picture."""
    watch, seen = PictureWatch(), []
    for number, one in enumerate(shown):
        watch.see(one, number / FPS)
        seen.append(watch.flaw.kind)
    return seen


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("noise", [0.0, 1.0, 3.0, 6.0, 12.0])
def test_a_covered_lens_is_black(size: tuple[int, int], noise: float) -> None:
    """Whatever the gain makes of the sensor's noise."""
    assert judged(picture(flat(size, 16, noise))) == BLACK


def test_black_of_full_range_with_a_few_faulty_pixels_is_black() -> None:
    """Single bright points all over the sensor are no lamp; level 0 is black as well."""
    luma = np.maximum(0, RNG.normal(0, 3, (720, 1280)))
    luma.reshape(-1)[RNG.integers(0, luma.size, 60)] = 255
    assert judged(picture(luma)) == BLACK


@pytest.mark.parametrize("noise", [0.0, 3.0, 6.0])
@pytest.mark.parametrize("size", SIZES[:2])
def test_a_night_scene_with_a_lamp_is_none(size: tuple[int, int], noise: float) -> None:
    """A lamp of 0.05 % of the picture in the dark."""
    luma, side = flat(size, 18, noise), max(8, size[0] // 45)
    luma[100 : 100 + side, 200 : 200 + side] = 220
    assert judged(picture(luma)) == SOUND


@pytest.mark.parametrize("noise", [0.0, 3.0, 6.0])
def test_a_night_scene_with_weak_structure_is_none(noise: float) -> None:
    """Shapes of some grey levels below the noise."""
    luma = flat((640, 360), 20, noise)
    luma[200:] += 5
    luma[:, 300:380] += 4
    assert judged(picture(luma)) == SOUND


def test_a_covered_lens_and_a_dark_scene_at_a_low_bit_rate() -> None:
    """What an encoder leaves of them is told apart too."""
    covered = encoded((flat((320, 180), 16, 5) for _ in range(40)), bit_rate=100_000)
    assert judged(covered[-1]) == BLACK

    def street() -> Iterator[Luma]:
        for _ in range(40):
            luma = flat((320, 180), 18, 5)
            luma[125:] += 8
            luma[30:40, 250:260] = 200
            yield luma

    assert judged(encoded(street(), bit_rate=100_000)[-1]) == SOUND


@pytest.mark.parametrize(
    ("level", "u", "v", "expected"),
    [
        (0, 0, 0, GREEN),
        (128, 128, 128, GREY),
        (235, 128, 128, PLAIN),
        (90, 100, 160, PLAIN),
        (30, 90, 170, PLAIN),
    ],
)
def test_one_colour(level: int, u: int, v: int, expected: Flaw) -> None:
    """An empty buffer is green, lost references are grey, and nothing shows a scene."""
    assert judged(picture(np.full((360, 640), level, np.uint8), u, v)) == expected


@pytest.mark.parametrize(
    "pixel_format", ["yuv420p", "yuvj420p", "nv12", "yuv422p", "yuyv422", "uyvy422", "nv16"]
)
def test_every_format_is_judged_alike(pixel_format: str) -> None:
    """Wherever the bytes of luma and chroma lie."""
    shown = [picture(scene()), picture(np.zeros((180, 320)), 0, 0), picture(np.full((180, 320), 128))]
    assert [judged(one.reformat(format=pixel_format)) for one in shown[:1]] == [SOUND]
    assert [judged(one.reformat(format=pixel_format)).kind for one in shown[1:]] == ["low_entropy"] * 2


def test_a_picture_that_is_green_below_is_not_trusted() -> None:
    """The rest of a picture that broke off is empty."""
    half = picture(scene())
    for plane, level in zip(half.planes, (0, 0, 0), strict=True):
        data = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        data[data.shape[0] // 2 :] = level
    assert judged(half) == GREEN


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_a_grey_wall_in_infrared_light_with_a_person_is_a_scene(noise: float) -> None:
    """A wall of just the level that FFmpeg fills in has noise; what it fills in has none, whatever moves on it."""
    wall = flat((1280, 720), 128, noise).round()
    wall[200:700, 300:520] = 60
    assert judged(picture(wall)) == SOUND
    lost = flat((1280, 720), 128)
    lost[200:700, 300:520] = scene((220, 500))
    assert judged(picture(lost)) == GREY


def test_bright_fog_and_infrared_are_scenes() -> None:
    """A slow gradient in grey, a burnt-out sky, a picture without colour at night."""
    fog = 150 + np.linspace(-6, 6, 180)[:, None] + RNG.normal(0, 1.5, (180, 320))
    sky = np.where(np.arange(180)[:, None] < 125, 235.0, scene())
    infrared = 128 + (scene() - 90) / 12
    assert [judged(picture(luma)) for luma in (fog, sky, infrared)] == [SOUND] * 3


def test_the_sample_clip_is_sound_throughout() -> None:
    """Real pictures of streets are trusted, each of them."""
    watch = PictureWatch()
    with av.open(str(sample_clip())) as clip:
        for shown in clip.decode(video=0):
            watch.see(shown, float(shown.time))
            assert watch.flaw == SOUND, shown.time


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(["yuv420p", "nv12", "yuv411p", "yuyv422", "gray", "rgb24", "p010le", "yuv444p"]),
    st.lists(st.floats(-1e3, 1e3), max_size=5),
)
def test_any_picture_at_any_time_is_taken(width: int, height: int, kind: str, times_s: list[float]) -> None:
    """The smallest and oddest pictures, formats that hide the luma, and time in any order."""
    watch = PictureWatch()
    for now_s in times_s:
        watch.see(av.VideoFrame(2 * width, 2 * height, kind), now_s)


OPTIONS: list[dict[str, Any]] = [{"crf": "23"}, {"crf": "40"}, {"bit_rate": 100_000}, {"bit_rate": 800_000}]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("noise", [0.5, 3.0])
def test_a_still_scene_with_noise_is_not_frozen(noise: float, options: dict[str, Any]) -> None:
    """Even where the encoder repeats the picture between key frames."""
    assert set(flaws(encoded((scene(noise=noise) for _ in range(90)), gop=15, **options))) == {""}


@pytest.mark.parametrize("quality", [3, 12, 31])
@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_a_still_scene_in_mjpeg_is_not_frozen(noise: float, quality: int) -> None:
    """Quantisation eats most of the noise; the very same picture is frozen all the same."""
    shown = jpegs((scene(noise=noise) for _ in range(80)), quality)
    assert set(flaws(shown)) == {""}
    assert set(flaws([*shown[:20], *shown[20:21] * 80])[80:]) == {"frozen"}


def test_a_frozen_camera_is_told_and_trusted_at_the_first_other_picture() -> None:
    """The same picture encoded anew again and again, between two times of a still scene with noise."""
    still = scene(noise=2.0)
    lumas = [*(scene(noise=2.0) for _ in range(30)), *[still] * 100, *(scene(noise=2.0) for _ in range(30))]
    seen = flaws(encoded(iter(lumas), crf="23", preset="ultrafast"))
    assert "frozen" not in seen[:30]
    assert set(seen[115:130]) == {"frozen"}
    assert set(seen[130:]) == {""}


def test_raw_pictures_and_a_small_thing_that_moves() -> None:
    """The very same bytes are frozen after 5 s; a person far away that walks is enough for a scene."""
    still = scene()
    assert flaws([picture(still)] * 80)[55:] == ["frozen"] * 25

    def walks(number: int) -> Luma:
        luma = still.copy()
        luma[60:72, 20 + 2 * number : 26 + 2 * number] = 20
        return luma

    assert set(flaws([picture(walks(number)) for number in range(80)])) == {""}


def test_a_still_scene_that_only_p_frames_repeat_is_not_frozen() -> None:
    """Without a key frame it can't be told from a still scene."""
    shown = encoded(iter([scene()] * 80), gop=1000)
    assert set(flaws(shown)) == {""}


def test_the_flaw_of_one_picture_goes_before_frozen() -> None:
    """A covered lens without noise is black, not frozen."""
    watch = PictureWatch()
    for number in range(100):
        watch.see(picture(flat((640, 360), 16)), number / FPS)
    assert watch.flaw == BLACK
    assert FROZEN.kind == "frozen"


def test_pictures_are_looked_at_a_few_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a look costs is paid four times a second, whatever the rate of the camera."""
    looks: list[object] = []
    see: Callable[[av.VideoFrame], Any] = sample_of
    monkeypatch.setattr("agent.picture.sample_of", lambda shown: looks.append(shown) or see(shown))
    watch, shown = PictureWatch(), picture(scene())
    for number in range(600):
        watch.see(shown, number / 60)
    assert 35 <= len(looks) <= 52
