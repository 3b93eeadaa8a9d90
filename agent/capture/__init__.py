"""Where frames come from: the FrameSource Protocol and the table of its implementations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.messages import Frame

Pace = Literal["realtime", "fastest"]


@dataclass(slots=True)
class SourceStats:
    """What a source has met so far; each field written by one thread, read by anyone.

    `packets` and `frames` count all of the run. Dropped: `waited_for_key_frame` packets before the first key
    frame of a connection, `undecodable_packets`, `disordered_frames` that a damaged file gave out after later
    ones, and `late_packets` of a live source that the decoder was too far behind. `gaps` are steps of the PTS
    of more than 1.5 usual ones.
    """

    packets: int = 0
    frames: int = 0
    waited_for_key_frame: int = 0
    undecodable_packets: int = 0
    disordered_frames: int = 0
    gaps: int = 0
    pts_backwards: int = 0
    pts_duplicate: int = 0
    pts_missing: int = 0
    resolution_changes: int = 0
    reconnects: int = 0
    stalls: int = 0
    late_packets: int = 0


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

    def open(self) -> None:
        """Connect and find the video stream. Raises AgentError; ServiceAway soon after a `close()`."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Yield frames in decoding order of presentation. Raises AgentError."""
        ...

    def close(self) -> None:
        """End `open()` and `frames()` soon, from any thread; may be called twice, and before `open()`."""
        ...


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How to treat a network stream."""

    rtsp_transport: Literal["tcp", "udp"] = "tcp"
    open_timeout_s: float = 10.0
    stall_timeout_s: float = 10.0
    backoff_first_s: float = 0.5
    backoff_max_s: float = 30.0


def make_source(url: str, *, camera: str, pace: Pace, options: StreamOptions | None = None) -> FrameSource:
    """Return the source for `url`, not opened yet: a path, file:, rtsp(s):, http(s):."""
    from agent.capture.stream import StreamSource

    return StreamSource(url, camera=camera, pace=pace, options=options or StreamOptions())


def open_source(url: str, *, camera: str, pace: Pace, options: StreamOptions | None = None) -> FrameSource:
    """Return the opened source for `url`, as `make_source` takes it. Raises AgentError."""
    source = make_source(url, camera=camera, pace=pace, options=options)
    source.open()
    return source
