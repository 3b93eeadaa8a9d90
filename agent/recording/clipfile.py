"""A clip as it is taken, in memory: packets of a camera as they are, or its pictures as Motion JPEG; Matroska."""

from __future__ import annotations

import fractions
import io
from typing import TYPE_CHECKING, Any

import av
from av.video.reformatter import ColorRange

from agent.preprocess import colour_of

if TYPE_CHECKING:
    from av.packet import Packet

    from agent.capture.opening import Session

MAX_BYTES = 32 << 20
"""A clip that has grown to this ends early."""
_TICKS_HZ = 1000
_QUALITY = {"qmin": "2", "qmax": "2"}
"""Quantizer of the Motion JPEG: 2 is the finest that is of use."""


class PacketClip:
    """Takes packets of `session` as they are, the first a key frame."""

    def __init__(self, session: Session) -> None:
        self._raw = io.BytesIO()
        self._out = av.open(self._raw, "w", format="matroska")
        template = session.container.streams[session.stream_index]
        self._stream = self._out.add_stream_from_template(template)
        self._first: int | None = None
        self._last_dts: int | None = None

    @property
    def size_bytes(self) -> int:
        """How large it is so far."""
        return self._raw.tell()

    def add(self, packet: Packet[Any]) -> None:
        """Append `packet`, which is changed; one out of order or without a time is left out. Raises FFmpegError."""
        dts = packet.pts if packet.dts is None else packet.dts
        if dts is None or (self._last_dts is not None and dts <= self._last_dts):
            return
        self._first, self._last_dts = dts if self._first is None else self._first, dts
        packet.pts = (dts if packet.pts is None else packet.pts) - self._first
        packet.dts = dts - self._first
        packet.stream = self._stream
        self._out.mux(packet)

    def finish(self) -> bytes:
        """Return the file. Raises FFmpegError."""
        self._out.close()
        return self._raw.getvalue()


class PictureClip:
    """Takes pictures, which are compressed as JPEG."""

    def __init__(self, picture: av.VideoFrame) -> None:
        self._raw = io.BytesIO()
        self._out = av.open(self._raw, "w", format="matroska")
        self._stream = self._out.add_stream("mjpeg", rate=5)
        self._stream.width, self._stream.height = picture.width, picture.height
        self._stream.pix_fmt = "yuvj420p"
        context = self._stream.codec_context
        context.time_base, context.options = fractions.Fraction(1, _TICKS_HZ), dict(_QUALITY)
        context.thread_count = 1
        self._size = picture.width, picture.height
        self._last = -1

    @property
    def size_bytes(self) -> int:
        """How large it is so far."""
        return self._raw.tell()

    def add(self, picture: av.VideoFrame, at_s: float) -> None:
        """Append `picture`, `at_s` after the first; one of another size is left out. Raises FFmpegError."""
        ticks = round(at_s * _TICKS_HZ)
        if (picture.width, picture.height) != self._size or ticks <= self._last:
            return
        matrix, colour_range = colour_of(picture)
        full = picture.reformat(
            format="yuvj420p",
            src_colorspace=matrix,
            src_color_range=colour_range,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        full.pts, full.time_base, self._last = ticks, fractions.Fraction(1, _TICKS_HZ), ticks
        self._out.mux(self._stream.encode(full))

    def finish(self) -> bytes:
        """Return the file. Raises FFmpegError."""
        self._out.mux(self._stream.encode(None))
        self._out.close()
        return self._raw.getvalue()
