"""The clips that are measured with: one's own, or the sample clip as a 1080p camera would send it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.codec.codec
import msgspec
import numpy as np

from agent.capture import open_source
from agent.capture.opening import local_path
from agent.errors import CannotCreate, InputMissing, UsageError
from agent.starter import sample_clip
from agent.urls import redact, scheme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

STANDARD_MBIT_S = 1.0
"""Its decoding costs what that of the clips of our research did: 3.3 ms a frame where those took 3.3 to 3.4."""
FRAMES = 500
RATE_HZ = 25
_SIZE_PX = (1920, 1080)
GOP = 50
_NOISE_LEVELS = 2.0
"""Standard deviation of a still camera's sensor noise, in grey levels of 255."""
_SHIFT_PX = 64
_ENCODER = "libx264"
_OPTIONS = {"preset": "veryfast", "x264-params": "sliced-threads=0:bframes=0"}
"""CABAC, one slice, no B frames, as cameras send it."""


class ClipFacts(msgspec.Struct, frozen=True):
    """What a clip is, as its container and first frame tell."""

    name: str
    width_px: int
    height_px: int
    codec: str
    frame_rate_hz: float
    mbit_s: float


def default_cache() -> Path:
    """Return where the clips made are kept. Raises UsageError for a user without a home."""
    if home := os.environ.get("XDG_CACHE_HOME"):
        return Path(home) / "edge-agent" / "bench"
    try:
        return Path.home() / ".cache" / "edge-agent" / "bench"
    except RuntimeError as error:
        fix = "name a folder by --cache"
        raise UsageError("no folder for the clips: this user has no home", fix=fix) from error


def own_clip(source: str) -> Path:
    """Return the file `source`, a path or file: URL, once a frame of it was decoded.

    Raises UsageError for what is no file; InputMissing, NotPermitted or BadData for what can't be played.
    """
    if scheme(source) not in ("", "file"):
        raise UsageError(
            "bench needs a file", seen=redact(source), fix="record a minute of it and give that by --source"
        )
    path = local_path(source)
    opened = open_source(f"file:{path}", camera="bench", pace="fastest")
    try:
        next(iter(opened.frames()), None)
    finally:
        opened.close()
    return path


def standard_clip(cache: Path, mbit_s: float) -> Path:
    """Return the sample clip as 500 frames of 1920x1080 H.264 at 25 frames/s, made at the first call.

    Its name tells how it was made. Raises InputMissing (no sample clip, no encoder) or CannotCreate.
    """
    return _made(
        cache / f"sample-1080p25-{mbit_s:g}mbit-{_recipe()}.mp4", mbit_s, lambda: _repeated(sample_clip())
    )


def still_clip(cache: Path, mbit_s: float) -> Path:
    """Return its first frame as a camera sees it for 20 s while nothing moves: with a sensor's noise.

    Raises InputMissing or CannotCreate.
    """
    return _made(
        cache / f"still-1080p25-{mbit_s:g}mbit-{_recipe()}.mp4", mbit_s, lambda: _noisy(sample_clip())
    )


def facts(clip: Path) -> ClipFacts:
    """Describe a clip that is known to be playable."""
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        codec, rate_hz = stream.codec_context, float(stream.average_rate or RATE_HZ)
        mbit_s = round((container.bit_rate or 0) / 1e6, 3)
        return ClipFacts(clip.name, codec.width, codec.height, codec.name, rate_hz, mbit_s)


def _repeated(clip: Path) -> Iterator[av.VideoFrame]:
    while True:
        with av.open(str(clip)) as reader:
            for picture in reader.decode(video=0):
                yield picture.reformat(*_SIZE_PX, format="yuv420p")


def _noisy(clip: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(clip)) as reader:
        first = next(reader.decode(video=0)).reformat(*_SIZE_PX, format="yuv420p")
    planes = first.to_ndarray().astype(np.int16)
    rng = np.random.default_rng(1)
    (width, height), more = _SIZE_PX, _SHIFT_PX
    noise = rng.normal(0, _NOISE_LEVELS, (height + more, width + more)).round().astype(np.int16)
    while True:
        y, x = rng.integers(0, more, 2)
        pixels: NDArray[np.int16] = planes.copy()
        pixels[:height] += noise[y : y + height, x : x + width]
        yield av.VideoFrame.from_ndarray(pixels.clip(0, 255).astype(np.uint8), format="yuv420p")


def _recipe() -> str:
    """Return eight digits that change with the sample clip and with the settings that clips are made with."""
    settings = (FRAMES, RATE_HZ, _SIZE_PX, GOP, _NOISE_LEVELS, _SHIFT_PX, _ENCODER, _OPTIONS)
    return hashlib.sha256(sample_clip().read_bytes() + repr(settings).encode()).hexdigest()[:8]


def _is_whole(clip: Path) -> bool:
    """Tell whether a clip that was made can be opened and has all frames by its index, which is written last."""
    try:
        with av.open(str(clip)) as container:
            return bool(container.streams.video[0].frames == FRAMES)
    except (av.FFmpegError, IndexError):
        return False


def _made(out: Path, mbit_s: float, pictures: Callable[[], Iterable[av.VideoFrame]]) -> Path:
    if out.is_file() and _is_whole(out):
        return out
    try:
        av.codec.codec.Codec(_ENCODER, "w")
    except av.codec.codec.UnknownCodecError as error:
        fix = "give a clip of your own by --source"
        raise InputMissing("this PyAV has no H.264 encoder", seen=error, fix=fix) from error
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix="making-") as folder:
            part = Path(folder) / out.name
            _encode(part, mbit_s, pictures())
            return part.rename(out)
    except OSError as error:
        fix = "name a folder by --cache that you can write"
        raise CannotCreate(f"can't make {out}", seen=error.strerror, fix=fix) from error


def _encode(out: Path, mbit_s: float, pictures: Iterable[av.VideoFrame]) -> None:
    with av.open(str(out), "w") as writer:
        stream = writer.add_stream(_ENCODER, rate=RATE_HZ)
        stream.width, stream.height = _SIZE_PX
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = GOP
        stream.bit_rate = int(mbit_s * 1e6)
        stream.options = _OPTIONS
        for number, picture in zip(range(FRAMES), pictures, strict=False):
            picture.pts, picture.time_base = number, Fraction(1, RATE_HZ)
            writer.mux(stream.encode(picture))
        writer.mux(stream.encode(None))
