"""Where frames come from: the FrameSource Protocol and the table of its implementations."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from agent.capture.link import CONNECTING, LinkState
from agent.errors import UsageError
from agent.heartbeat import Beat
from agent.urls import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.messages import Frame

Pace = Literal["realtime", "fastest"]


@dataclass(slots=True)
class SourceStats:
    """What a source has met so far; each field written by one thread, read by anyone.

    `codec` is the stream's, as FFmpeg names it, "" while unknown and for pictures that come uncompressed.
    `packets` and `frames` count all of the run. Dropped: `waited_for_key_frame` packets before the first key
    frame of a connection, `undecodable_packets`, `disordered_frames` that a damaged file gave out after later
    ones, and `late_packets` of a live source that the decoder was too far behind. `gaps` are steps of the PTS
    of more than 1.5 usual ones, `clock_jumps` those that the clock of a live source can't have made,
    `corrupt_frames` those that the decoder itself says are damaged. `losses` counts connections that stood and broke.
    `awaiting_key`: no picture before the next key frame. `link` is
    what the source does now.

    With `decode` "keyframes_when_idle": `packets_not_decoded` were sound and left out, `idle_s` is how long
    only key frames were decoded, `wakes_*` why it ended (the picture changed, packets grew, the consumer was
    busy, the next key frame was overdue). `miss_window_s` is how long something can be in view in idle
    between two pictures, 0 where idle can't be.
    """

    codec: str = ""
    packets: int = 0
    frames: int = 0
    waited_for_key_frame: int = 0
    undecodable_packets: int = 0
    corrupt_frames: int = 0
    disordered_frames: int = 0
    gaps: int = 0
    pts_backwards: int = 0
    pts_duplicate: int = 0
    pts_missing: int = 0
    clock_jumps: int = 0
    resolution_changes: int = 0
    losses: int = 0
    reconnects: int = 0
    stalls: int = 0
    late_packets: int = 0
    packets_not_decoded: int = 0
    wakes_motion: int = 0
    wakes_sizes: int = 0
    wakes_busy: int = 0
    wakes_overdue: int = 0
    idle_s: float = 0.0
    miss_window_s: float = 0.0
    awaiting_key: bool = False
    link: LinkState = CONNECTING


class FrameSource(Protocol):
    """One camera, stream or clip. It knows frames, never models.

    `open()` raises an AgentError when the source can't be had at all; `frames()` then yields until the end of
    a file, until `close()` (from any thread; it ends soon), and on a live source for ever: lost connections
    are re-established inside, with backoff, and counted. `close()` ends a running `open()` too, which then
    raises ServiceAway. A Frame holds the decoder's own buffer: let it go soon.

    `Frame.seq` counts the frames of a live source as they come. In a file it is the number of the frame in
    the undamaged file, as far as that can be told: frames that were lost to damage are counted.
    """

    stats: SourceStats

    @property
    def live(self) -> bool:
        """A camera, without an end and with a clock of its own; known after `open()`."""
        ...

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second as declared, else as measured so far; 0.0 while unknown."""
        ...

    @property
    def frame_count(self) -> int:
        """Number of frames of a file, as far as its container tells; 0 when unknown or live."""
        ...

    @property
    def released(self) -> bool:
        """No thread of it runs any more; after `close()` this may take as long as a driver hangs."""
        ...

    def open(self) -> None:
        """Connect and find the video stream. Raises AgentError; ServiceAway soon after a `close()`."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Yield frames in decoding order of presentation. Raises AgentError."""
        ...

    def close(self) -> None:
        """End `open()` and `frames()` soon, from any thread; may be called twice, and before `open()`."""
        ...


class _Make(Protocol):
    """Makes a source."""

    def __call__(self, url: str, *, camera: str, pace: Pace, options: StreamOptions) -> FrameSource:
        """Return the source of `url`, not opened yet. Raises UsageError."""
        ...


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How to treat a stream or camera; `rtsp_transport`, `decode` and `busy` mean something for FFmpeg's alone.

    `decode` "keyframes_when_idle" gives only key frames while nothing changes in the picture and `busy`
    denies; once something does, all since the last one. `busy` is called from the thread of `frames()`, for
    each packet in idle: it must be quick, take no lock that is held long, and not raise. `beat` is told of
    decoding, which must end by itself.
    """

    rtsp_transport: Literal["tcp", "udp"] = "tcp"
    open_timeout_s: float = 10.0
    stall_timeout_s: float = 10.0
    backoff_first_s: float = 0.5
    backoff_max_s: float = 30.0
    decode: Literal["all", "keyframes_when_idle"] = "all"
    busy: Callable[[], bool] = _never
    beat: Beat = field(default_factory=Beat)


_SOURCES = {
    "": "agent.capture.stream:StreamSource",
    "file": "agent.capture.stream:StreamSource",
    "rtsp": "agent.capture.stream:StreamSource",
    "rtsps": "agent.capture.stream:StreamSource",
    "http": "agent.capture.stream:StreamSource",
    "https": "agent.capture.stream:StreamSource",
    "v4l2": "agent.capture.v4l2:source",
    "picamera": "agent.capture.picamera:source",
    "csi": "agent.capture.gstreamer:csi_source",
    "gstreamer": "agent.capture.gstreamer:source",
}
"""Which function makes the source of a scheme ("" is a path); imported when it is asked for."""


def make_source(url: str, *, camera: str, pace: Pace, options: StreamOptions | None = None) -> FrameSource:
    """Return the source for `url`, not opened yet: a path, or a URL of a scheme in `_SOURCES`.

    Raises UsageError for another scheme, and for settings in the URL that make no sense.
    """
    module, _, name = _SOURCES[source_scheme(url)].partition(":")
    make: _Make = getattr(importlib.import_module(module), name)
    return make(url, camera=camera, pace=pace, options=options or StreamOptions())


def source_scheme(url: str) -> str:
    """Return the scheme that says which source reads `url`, "" for a path. Raises UsageError."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?", url)
    if match is None:
        return ""
    scheme = match[1].lower()
    if scheme in _SOURCES:
        return scheme
    if not match[2]:  # a colon in a path
        return ""
    known = ", ".join(f"{name}:" for name in _SOURCES if name)
    raise UsageError("can't read this kind of URL", seen=redact(url), fix=f"use a path or one of {known}")


def open_source(url: str, *, camera: str, pace: Pace, options: StreamOptions | None = None) -> FrameSource:
    """Return the opened source for `url`, as `make_source` takes it. Raises AgentError."""
    source = make_source(url, camera=camera, pace=pace, options=options)
    source.open()
    return source
