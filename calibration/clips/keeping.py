"""Keeps single pictures of clips so that reading them again gives the preprocessor the same pixels."""

from __future__ import annotations

import fractions
import io
from typing import TYPE_CHECKING

import av
from av.video.reformatter import ColorRange, Interpolation

from agent.capture import open_source
from agent.errors import BadData
from agent.preprocess import colour_of
from agent.wholefile import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from calibration.clips.sources import Source

_FULL_RANGE = {"yuvj420p": "yuv420p", "yuvj422p": "yuv422p", "yuvj444p": "yuv444p", "yuvj440p": "yuv440p"}
"""The same bytes: what the j says is the range, which is stored beside."""
_REARRANGED = {
    **dict.fromkeys(("nv12", "nv21"), "yuv420p"),
    **dict.fromkeys(("nv16", "yuyv422", "uyvy422"), "yuv422p"),
    **dict.fromkeys(("rgb24", "bgr24"), "bgr0"),
    **dict.fromkeys(("rgba", "argb", "abgr"), "bgra"),
    "p010le": "yuv420p10le",
}
"""The same values in another order, for a codec that has no such order."""
_SITINGS = ("left", "unspecified", "center", "topleft", "top")
"""Where a picture's chroma lies; swscale heeds it, PyAV does not tell it."""


def keep(source: Source, seqs: Mapping[int, Path]) -> Iterator[Path]:
    """Write the frames of `source` with these numbers to their files; yield each that is there, old ones first.

    An image is copied as it is; a frame of a clip becomes a Matroska file of one FFV1 picture (RFC 9043,
    lossless), with the matrix and range it was tagged with. Raises BadData, CannotCreate.
    """
    wanted = {seq: file for seq, file in seqs.items() if not file.is_file()}
    yield from (file for file in seqs.values() if file not in wanted.values())
    if not wanted:
        return
    if source.image:
        for file in wanted.values():
            write_whole(file, _bytes_of(source))
            yield file
    else:
        yield from _frames(source, wanted)


def encoded(picture: av.VideoFrame) -> bytes:
    """Return `picture` as a Matroska file of one FFV1 frame; the same picture always gives the same bytes.

    Raises BadData for one that would not come back as it was.
    """
    small = _small(picture)
    for siting in _SITINGS:
        stored = _encode(picture, siting)
        if _small(_decode(stored)) == small:
            return stored
    seen = f"{picture.format.name} {picture.width}x{picture.height}"
    raise BadData("a picture can't be kept without loss", seen=seen, fix="convert the clip to yuv420p")


def _encode(picture: av.VideoFrame, siting: str) -> bytes:
    name = picture.format.name
    target = _FULL_RANGE.get(name, _REARRANGED.get(name, name))
    colour_range = ColorRange.JPEG if name in _FULL_RANGE else ColorRange(picture.color_range)
    frame = picture.reformat(
        format=target, src_color_range=colour_range, dst_color_range=colour_range, threads=1
    )
    raw = io.BytesIO()
    with av.open(raw, "w", format="matroska", options={"fflags": "+bitexact"}) as out:
        stream = out.add_stream("ffv1", rate=1)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, target
        context = stream.codec_context
        context.options = {"flags": "+bitexact", "level": "3", "chroma_sample_location": siting}
        context.thread_count = 1
        context.color_range, context.colorspace = colour_range, picture.colorspace
        frame.pts, frame.time_base = 0, fractions.Fraction(1)
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return raw.getvalue()


def _decode(stored: bytes) -> av.VideoFrame:
    with av.open(io.BytesIO(stored)) as container:
        frame: av.VideoFrame = next(container.decode(video=0))
        return frame


def _small(picture: av.VideoFrame) -> bytes:
    """Return `picture` in RGB at half the size, as the agent's preprocessor scales."""
    matrix, colour_range = colour_of(picture)
    return (
        picture.reformat(
            width=max(1, picture.width // 2),
            height=max(1, picture.height // 2),
            format="rgb24",
            src_colorspace=matrix,
            src_color_range=colour_range,
            dst_color_range=ColorRange.JPEG,
            interpolation=Interpolation.BILINEAR,
            threads=1,
        )
        .to_ndarray()
        .tobytes()
    )


def _frames(source: Source, wanted: dict[int, Path]) -> Iterator[Path]:
    opened = open_source(str(source.file), camera=source.name, pace="fastest")
    try:
        for frame in opened.frames():
            if (file := wanted.pop(frame.seq, None)) is not None:
                write_whole(file, encoded(frame.picture))
                yield file
            if not wanted:
                return
    finally:
        opened.close()
    raise _changed(source, f"no frame {min(wanted)}")


def _bytes_of(source: Source) -> bytes:
    try:
        return source.file.read_bytes()
    except OSError as error:
        raise _changed(source, error.strerror) from None


def _changed(source: Source, why: str | None) -> BadData:
    return BadData("a clip changed while it was read", seen=f"{source.name}: {why}", fix="run it again")
