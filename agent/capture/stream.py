"""Frames of a file, an RTSP camera or an HTTP body, decoded by FFmpeg through PyAV on one thread."""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING

import av

from agent.backoff import Backoff
from agent.capture import SourceStats, StreamOptions, faults
from agent.capture.numbering import Numbering
from agent.capture.opening import is_network, is_rtsp, open_session
from agent.capture.packets import Arrival, read_packets
from agent.capture.reader import Reader
from agent.capture.timeline import Timeline
from agent.errors import BadData, UsageError
from agent.messages import Frame
from agent.urls import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from av.video.frame import VideoFrame

    from agent.capture import Pace
    from agent.capture.opening import Session

MAX_BAD_PACKETS = 300
"""So many packets in a row that can't be decoded: a file is refused, a camera is connected anew."""
EARLY_END_S = 1.5
KEY_FRAME_PATIENCE_S = 60.0
"""So long a camera may take for its next key frame; some send one every 20 s."""
log = logging.getLogger(__name__)


class StreamSource:
    """A FrameSource over FFmpeg: paths, file:, rtsp(s):// and http(s)://.

    A file is paced by its PTS on the monotonic clock (`pace` "realtime": a late frame is handed out at once,
    none is skipped or reordered) or not at all ("fastest": `time_s` is the PTS). A live source comes as it
    comes, with `captured_s` mapped from the PTS. A body over HTTP that has an end is a file.

    A frame holds one buffer of the decoder's pool (1080p: 3.1 MB); as many stay allocated as were held at
    once.
    """

    def __init__(
        self,
        url: str,
        *,
        camera: str,
        pace: Pace,
        options: StreamOptions | None = None,
        now: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.stats = SourceStats()
        self._url, self._camera, self._pace = url, camera, pace
        self._options = options or StreamOptions()
        self._now, self._rng = now, rng or random.Random()  # noqa: S311 - jitter, no secret
        self._stop = threading.Event()
        self._reader: Reader | None = None
        self._session: Session | None = None
        self._timeline = Timeline(pace=pace, stats=self.stats, now=now, wait=self._stop.wait)
        self._numbering = Numbering()
        self._format: tuple[int, int, str] | None = None
        self._awaiting_key = True
        self._bad_packets = 0
        self._last_progress_s = 0.0
        self._first_s = self._last_s = 0.0

    @property
    def live(self) -> bool:
        """A camera, without an end and with a clock of its own; known after `open()`."""
        return self._session.live if self._session else is_rtsp(self._url)

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second as declared, else as measured so far; 0.0 while unknown."""
        declared_hz = self._session.frame_rate_hz if self._session else 0.0
        return declared_hz or self._timeline.frame_rate_hz

    @property
    def frame_count(self) -> int:
        """Number of frames of a file, as far as its container tells; 0 when unknown or live."""
        return self._session.frame_count if self._session else 0

    def open(self) -> None:
        """Connect and find the video stream. Raises AgentError; ServiceAway soon after a `close()`."""
        if self._pace == "fastest" and is_rtsp(self._url):
            raise self._no_clip()
        if is_network(self._url):
            self._reader = self._new_reader()
            if self._stop.is_set():  # closed before there was a reader to close
                self._reader.close()
            self._session = self._reader.start()
        else:
            self._session = open_session(self._url, self._options)
        if self._stop.is_set():
            self._release()
            raise faults.closed(self._url)
        if self._pace == "fastest" and self._session.live:
            self.close()
            raise self._no_clip()
        self._timeline.begin(self._session.frame_rate_hz)
        log.info("camera %s: connected to %s", self._camera, redact(self._url))

    def frames(self) -> Iterator[Frame]:
        """Yield frames in order of presentation until the end or `close()`. Raises AgentError."""
        if self._session is None:
            raise RuntimeError("open() comes before frames()")
        try:
            for arrival in self._arrivals(self._session):
                for picture in self._decode(arrival):
                    frame = self._frame(picture, arrival)
                    if self._stop.is_set():
                        return
                    if frame is not None:
                        yield frame
                    self._last_progress_s = self._now()
            self._check_end(self._session)
        finally:
            self._release()

    def close(self) -> None:
        """End `open()` and `frames()` soon, from any thread; may be called twice, and before `open()`."""
        self._stop.set()
        if self._reader is not None:
            self._reader.close()

    def _new_reader(self) -> Reader:
        options = self._options
        backoff = Backoff(first_s=options.backoff_first_s, max_s=options.backoff_max_s, rng=self._rng)
        return Reader(
            self._url, camera=self._camera, options=options, backoff=backoff, stats=self.stats, now=self._now
        )

    def _arrivals(self, session: Session) -> Iterator[Arrival]:
        """Yield packets of the sessions one after the other, and see that a live one gives pictures."""
        if self._reader is None:
            yield from self._file_arrivals(session)
            return
        dropped = 0
        self._last_progress_s = self._now()
        for arrival in self._reader.arrivals():
            if self._stop.is_set():
                return
            if arrival is None:
                continue
            if arrival.session is not self._session:
                self._begin(arrival.session)
            if dropped != self._reader.dropped:
                dropped = self._reader.dropped
                self.stats.late_packets, self._awaiting_key = dropped, True
                log.warning("camera %s: decoding falls behind the stream: packets dropped", self._camera)
            yield arrival
            patience_s = KEY_FRAME_PATIENCE_S if self._awaiting_key else self._options.stall_timeout_s
            if self.live and self._now() - self._last_progress_s > patience_s:
                self._give_up(arrival.session)

    def _file_arrivals(self, session: Session) -> Iterator[Arrival]:
        try:
            for arrival in read_packets(session, self._now):
                if self._stop.is_set():
                    return
                if arrival is not None:
                    yield arrival
        except av.FFmpegError as error:
            log.warning(
                "camera %s: reading stopped: %s (%s)", self._camera, error.strerror, redact(self._url)
            )

    def _begin(self, session: Session) -> None:
        """Go over to another connection: its own decoder and its own time line."""
        self._session = session
        self._awaiting_key, self._bad_packets = True, 0
        self._timeline.begin(session.frame_rate_hz)
        self._last_progress_s = self._now()

    def _decode(self, arrival: Arrival) -> list[VideoFrame]:
        packet = arrival.packet
        if packet is not None:
            self.stats.packets += 1
            self._numbering.packet(packet.pts)
            if arrival.torn:
                self._numbering.torn()
            if self._awaiting_key and not packet.is_keyframe:
                self.stats.waited_for_key_frame += 1
                self._numbering.lost(packet.pts)
                return []
            self._awaiting_key = False
        try:
            pictures = arrival.session.decoder.decode(packet)
        except av.FFmpegError:
            self._bad_packet(arrival)
            return []
        self._bad_packets = 0
        return pictures

    def _bad_packet(self, arrival: Arrival) -> None:
        session = arrival.session
        if arrival.packet is not None:
            self._numbering.lost(arrival.packet.pts)
        self.stats.undecodable_packets += 1
        self._bad_packets += 1
        if self._bad_packets < MAX_BAD_PACKETS:
            return
        if not session.live:
            raise self._undecodable()
        self._give_up(session)

    def _give_up(self, session: Session) -> None:
        self._bad_packets, self._last_progress_s = 0, self._now()
        if self._reader is not None:
            self._reader.give_up(session)

    def _frame(self, picture: VideoFrame, arrival: Arrival) -> Frame | None:
        seq = self.stats.frames if arrival.session.live else self._number(picture, arrival.session)
        if seq is None:
            self.stats.disordered_frames += 1
            return None
        self._note_format(picture)
        moment = self._timeline.place(picture, arrival.session, arrived_s=arrival.arrived_s)
        self._first_s, self._last_s = (self._first_s if self.stats.frames else moment.time_s), moment.time_s
        self.stats.frames += 1
        return Frame(self._camera, seq, *moment, picture)

    def _number(self, picture: VideoFrame, session: Session) -> int | None:
        rate_hz = self._timeline.frame_rate_hz
        usual = 1 / (rate_hz * float(session.time_base)) if rate_hz else 0.0
        return self._numbering.frame(picture.pts, usual=usual)

    def _note_format(self, picture: VideoFrame) -> None:
        seen = (picture.width, picture.height, picture.format.name)
        if self._format not in (None, seen):
            self.stats.resolution_changes += 1
        self._format = seen

    def _check_end(self, session: Session) -> None:
        """At the end of a clip: complain when it had nothing, warn when it had less than it said."""
        if self._stop.is_set():
            return
        if self.stats.frames == 0:
            raise self._undecodable()
        missing_s = session.duration_s - (self._last_s - self._first_s)
        if session.frame_count > self.stats.frames or (not session.frame_count and missing_s > EARLY_END_S):
            left = f"{self.stats.frames} frames, {missing_s:.1f} s early"
            log.warning("camera %s: truncated? ended after %s: %s", self._camera, left, redact(self._url))

    def _release(self) -> None:
        if self._reader is not None:
            self._reader.close()
        elif self._session is not None:
            self._session.close()

    def _undecodable(self) -> BadData:
        seen = f"{redact(self._url)} ({self.stats.packets} packets)"
        return BadData("no frame could be decoded", seen=seen, fix="check that it plays with ffplay")

    def _no_clip(self) -> UsageError:
        return UsageError("--pace fastest needs a file", seen=redact(self._url), fix="use --pace realtime")
