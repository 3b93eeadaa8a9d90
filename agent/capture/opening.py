"""Opens a URL with FFmpeg (PyAV) and finds the video in it, in bounded time, with errors a user understands.

FFmpeg is kept silent: PyAV's default callback discards its messages without the GIL; the one that forwards
them to Python's logging takes the GIL in FFmpeg's threads and can deadlock (PyAV: "Logging doesn't play
nicely with multi-threaded workflows"). Rotation tags and interlacing are passed on as they are.
"""

from __future__ import annotations

import os
import time
import urllib.parse
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.logging

from agent.capture import faults
from agent.errors import BadData
from agent.urls import redact, scheme

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

    from agent.capture import StreamOptions

RTSP = ("rtsp", "rtsps")
HTTP = ("http", "https")
TEXT_ART = ("ansi", "bintext", "xbin", "idf")
"""Decoders that turn any text into pictures of text."""
UNTIMED = ("mpjpeg", "mjpeg", "h264", "hevc", "m4v")
"""Formats without timestamps: FFmpeg counts frames at a rate of its own."""
LIVE_OPTIONS = {"fpsprobesize": "0", "analyzeduration": "2000000"}
"""Don't watch a live stream to guess its rate: its first frame comes after 1.5 s, not 3.9."""
HTTP_OPTIONS = {"reconnect": "1", "reconnect_delay_max": "2"}

av.logging.set_level(None)


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """One open connection or file: a container, and the decoder of its video stream.

    `timed` says that the PTS are the source's own, `time_base` is their unit in seconds. `frame_rate_hz`,
    `frame_count` and `duration_s` are 0 where the container does not tell.
    """

    container: InputContainer
    stream_index: int
    decoder: VideoCodecContext
    live: bool
    timed: bool
    time_base: Fraction
    frame_rate_hz: float
    frame_count: int
    duration_s: float

    def seconds(self, ticks: int) -> float:
        """Return the time of a PTS or DTS, rounded once."""
        return ticks * self.time_base.numerator / self.time_base.denominator

    def close(self) -> None:
        """Release the connection; packets and frames that were handed out stay valid."""
        self.container.close()


def is_rtsp(url: str) -> bool:
    """Return whether `url` is a camera by its scheme alone."""
    return scheme(url) in RTSP


def is_network(url: str) -> bool:
    """Return whether `url` needs a network."""
    return scheme(url) in RTSP + HTTP


def open_session(url: str, options: StreamOptions) -> Session:
    """Open `url` and set its decoder up. Raises AgentError, within twice `options.open_timeout_s`."""
    target, settings = _target(url, options)
    started_s = time.monotonic()
    limit_s = options.open_timeout_s
    try:
        container = av.open(target, "r", options=settings, timeout=(limit_s, options.stall_timeout_s))
    except av.FFmpegError as error:
        waited_s = time.monotonic() - started_s
        raise faults.explain(error, url, waited_s=waited_s, limit_s=limit_s) from None
    try:
        return _session(container, url)
    except BaseException:
        container.close()
        raise


def _target(url: str, options: StreamOptions) -> tuple[str, dict[str, str]]:
    if not is_network(url):
        return f"file:{_checked_file(url)}", {}
    if is_rtsp(url):
        return url, {"rtsp_transport": options.rtsp_transport, **LIVE_OPTIONS}
    return url, HTTP_OPTIONS


def _checked_file(url: str) -> Path:
    path = local_path(url)
    try:
        if path.is_dir():
            raise BadData("a directory, not a video", seen=redact(url), fix="give one file in it")
        if not path.exists():
            raise faults.no_such_file(url)
        if not path.is_file():
            raise BadData("not a regular file", seen=redact(url), fix="give a video file, rtsp:// or http://")
        if path.stat().st_size == 0:
            raise BadData("empty file", seen=redact(url), fix=faults.FIX_FILE)
    except PermissionError:
        raise faults.no_permission(url) from None
    except (OSError, ValueError) as error:
        raise BadData("not a usable path", seen=redact(url), fix=str(error)) from None
    if not os.access(path, os.R_OK):
        raise faults.no_permission(url)
    return path


def local_path(url: str) -> Path:
    """Return the path of a plain path, file:path or file:///path (percent-decoded)."""
    if url[:7].lower() == "file://":
        parts = urllib.parse.urlsplit(url)
        return Path(urllib.parse.unquote(parts.path))
    return Path(url[5:] if url[:5].lower() == "file:" else url)


def _session(container: InputContainer, url: str) -> Session:
    stream = _video_stream(container, url)
    decoder = stream.codec_context
    decoder.thread_count = (
        1  # the other cores belong to the engine, and frame threads add a frame of delay each
    )
    decoder.thread_type = "NONE"
    rate = stream.average_rate or stream.guessed_rate
    live = is_rtsp(url) or (is_network(url) and _endless(container))
    timed = container.format.name not in UNTIMED
    return Session(
        container,
        stream.index,
        decoder,
        live,
        timed,
        stream.time_base or Fraction(1, 90000),
        float(rate or 0) if timed or not live else 0.0,
        0 if live else stream.frames,
        0.0 if live else (container.duration or 0) / av.time_base,
    )


def _video_stream(container: InputContainer, url: str) -> VideoStream:
    attached = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & attached]
    if not streams:
        kinds = ", ".join(s.type for s in container.streams) or "nothing"
        raise BadData("no video stream", seen=f"{redact(url)} (has {kinds})", fix=faults.FIX_FILE)
    # Where there is no decoder PyAV has no codec context, whatever its types say.
    playable = [s for s in streams if getattr(s, "codec_context", None) is not None]
    if not playable:
        raise BadData("no decoder for this video", seen=redact(url), fix="re-encode it to H.264")
    if playable[0].codec_context.name in TEXT_ART:
        raise BadData("text, not a video", seen=redact(url), fix=faults.FIX_FILE)
    return playable[0]


def _endless(container: InputContainer) -> bool:
    """Return whether an HTTP body is a stream: no duration, and no length or a playlist that goes on."""
    size_bytes = container.size or 0  # PyAV 19 has None for unknown, those before a negative number
    return container.duration is None and (size_bytes <= 0 or container.format.name == "hls")
