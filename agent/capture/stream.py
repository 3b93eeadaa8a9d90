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
from agent.capture.framing import Framing
from agent.capture.idle import IdleDecoder
from agent.capture.link import UP
from agent.capture.opening import is_network, is_rtsp, open_session
from agent.capture.packets import Arrival, read_packets
from agent.capture.reader import Reader
from agent.capture.timeline import Timeline
from agent.errors import BadData, UsageError
from agent.urls import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from av.video.frame import VideoFrame

    from agent.capture import Pace
    from agent.capture.opening import Session
    from agent.messages import Frame

MAX_BAD_PACKETS = 300
"""So many packets in a row that can't be decoded: a file is refused, a camera is connected anew."""
EARLY_END_S = 1.5
KEY_FRAME_PATIENCE_S = 60.0
"""So long a camera may take for its next key frame; some send one every 20 s."""
IDLE_NAP_S = 0.2
"""In idle packets are taken in bursts of so much: to wake up for each costs more than to look at it."""
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
        timeline = Timeline(pace=pace, stats=self.stats, now=now, wait=self._stop.wait)
        self._framing = Framing(camera=camera, stats=self.stats, timeline=timeline)
        self.stats.awaiting_key = True
        self._bad_packets = 0
        self._idle = self._idle_decoder() if self._options.decode == "keyframes_when_idle" else None
        self._last_progress_s = 0.0

    @property
    def live(self) -> bool:
        """A camera, without an end and with a clock of its own; known after `open()`."""
        return self._session.live if self._session else is_rtsp(self._url)

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second as declared, else as measured so far; 0.0 while unknown."""
        declared_hz = self._session.frame_rate_hz if self._session else 0.0
        return declared_hz or self._framing.frame_rate_hz

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
            self.stats.link = UP
        if self._stop.is_set():
            self._release()
            raise faults.closed(self._url)
        if self._pace == "fastest" and self._session.live:
            self.close()
            raise self._no_clip()
        self._framing.begin(self._session)
        log.info("camera %s: connected to %s", self._camera, redact(self._url))

    def frames(self) -> Iterator[Frame]:
        """Yield frames in order of presentation until the end or `close()`. Raises AgentError."""
        if self._session is None:
            raise RuntimeError("open() comes before frames()")
        try:
            for arrival in self._arrivals(self._session):
                for picture, completed in self._pictures(arrival):
                    frame = self._framing.frame(picture, completed)
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

    @property
    def released(self) -> bool:
        """No thread of this source runs (any more)."""
        return self._reader is None or not self._reader.alive

    def _new_reader(self) -> Reader:
        options = self._options
        backoff = Backoff(first_s=options.backoff_first_s, max_s=options.backoff_max_s, rng=self._rng)
        return Reader(
            self._url, camera=self._camera, options=options, backoff=backoff, stats=self.stats, now=self._now
        )

    def _idle_decoder(self) -> IdleDecoder:
        return IdleDecoder(
            camera=self._camera,
            stats=self.stats,
            busy=self._options.busy,
            decode=self._decode,
            skip=self._framing.skip,
            settle=self._settle,
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
                self.stats.late_packets, self.stats.awaiting_key = dropped, True
                if self._idle is not None:
                    self._idle.restart()
                log.warning("camera %s: decoding falls behind the stream: packets dropped", self._camera)
            yield arrival
            idle = self._idle is not None and self._idle.idle
            if idle and self.live and not self._reader.waiting:
                self._stop.wait(IDLE_NAP_S)
            rare = self.stats.awaiting_key or idle
            patience_s = KEY_FRAME_PATIENCE_S if rare else self._options.stall_timeout_s
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
        if self._idle is not None:
            self._idle.restart()
        self._session = session
        self.stats.awaiting_key, self._bad_packets = True, 0
        self._framing.begin(session)
        self._last_progress_s = self._now()

    def _pictures(self, arrival: Arrival) -> Iterator[tuple[VideoFrame, Arrival]]:
        """Yield the pictures that the next packet brings about, each with the packet that completed it."""
        if not self._admits(arrival):
            return
        if self._idle is None:
            yield from ((picture, arrival) for picture in self._decode(arrival))
            return
        if self._idle.idle:
            self._framing.keep_pace(arrival)
        yield from self._idle.pictures(arrival)

    def _admits(self, arrival: Arrival) -> bool:
        """Count the packet; tell whether it can be decoded, or a key frame is missing before it."""
        packet = arrival.packet
        if packet is None:
            return True
        self.stats.packets += 1
        self._framing.packet(arrival)
        if self.stats.awaiting_key and not packet.is_keyframe:
            self.stats.waited_for_key_frame += 1
            self._framing.lost(arrival)
            return False
        self.stats.awaiting_key = False
        return True

    def _decode(self, arrival: Arrival) -> list[VideoFrame]:
        beat = self._options.beat
        beat.begin("decode", self._now())
        try:
            pictures = arrival.session.decoder.decode(arrival.packet)
        except av.FFmpegError:
            self._bad_packet(arrival)
            return []
        finally:
            beat.wait()
        self._bad_packets = 0
        return pictures

    def _settle(self) -> None:
        if self._reader is not None:
            self._reader.settle()

    def _bad_packet(self, arrival: Arrival) -> None:
        session = arrival.session
        self._framing.lost(arrival)
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

    def _check_end(self, session: Session) -> None:
        """At the end of a clip: complain when it had nothing, warn when it had less than it said."""
        if self._stop.is_set():
            return
        if self.stats.frames == 0:
            raise self._undecodable()
        missing_s = session.duration_s - self._framing.span_s
        seen = self.stats.frames + self.stats.packets_not_decoded
        if session.frame_count > seen or (not session.frame_count and missing_s > EARLY_END_S):
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
