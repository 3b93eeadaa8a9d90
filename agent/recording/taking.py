"""Takes the clips of one camera: looks at its pictures, and puts what the plan asks for on the shelf."""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING

import av

from agent.backoff import Backoff
from agent.capture import SourceStats, faults, make_source, source_scheme
from agent.capture.link import Link
from agent.capture.opening import open_session
from agent.capture.packets import read_packets
from agent.errors import AgentError, IOFault, ServiceAway
from agent.recording.clipfile import MAX_BYTES, PacketClip, PictureClip
from agent.recording.plan import CLIP_S, Plan
from agent.recording.watching import Watch
from agent.urls import redact

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from agent.capture import FrameSource, StreamOptions
    from agent.capture.opening import Session
    from agent.capture.packets import Arrival
    from agent.recording.plan import Why
    from agent.recording.shelf import Shelf

log = logging.getLogger(__name__)

PACKETS = ("", "file", "rtsp", "rtsps", "http", "https")
"""Schemes of sources whose packets are there to be taken."""
PICTURE_S = 0.2
"""So far uncompressed pictures lie apart in a clip."""


class Taker:
    """Takes clips of the camera `name` at `url` until its end or `stop`. Runs in a thread of its own.

    A live camera that is lost is connected again, with backoff; with `patient` also one that was never there.
    """

    def __init__(
        self,
        name: str,
        url: str,
        shelf: Shelf,
        *,
        for_s: float,
        options: StreamOptions,
        stop: threading.Event,
        patient: bool,
        now: Callable[[], float] = time.monotonic,
        utc: Callable[[], float] = time.time,
    ) -> None:
        self.name, self.shelf, self.taken = name, shelf, 0
        self._url, self._options, self._stop, self._patient = url, options, stop, patient
        self._now, self._utc = now, utc
        self._watch = Watch(Plan(for_s))
        self._source: FrameSource | None = None

    def close(self) -> None:
        """End `run` soon, once `stop` is set; from any thread."""
        if self._source is not None:
            self._source.close()

    def run(self) -> None:
        """Take clips. Raises AgentError for a source that can't be had, and for a disk that fails or is full."""
        if source_scheme(self._url) in PACKETS:
            self._take_packets()
        else:
            self._take_pictures()

    def _take_packets(self) -> None:
        link = Link(
            camera=self.name,
            stats=SourceStats(),
            backoff=self._backoff(),
            lasting_s=self._options.backoff_max_s,
            stop=self._stop,
            now=self._now,
        )
        session: Session | None
        try:
            session = self._connect()
        except AgentError as error:
            if not self._patient:
                raise
            session = link.regain(self._connect, error)
        while session is not None:
            link.up()
            try:
                fault = self._read(session)
            finally:
                session.close()
            if fault is None or self._stop.is_set():
                return
            session = link.regain(self._connect, fault)

    def _backoff(self) -> Backoff:
        return Backoff(
            first_s=self._options.backoff_first_s,
            max_s=self._options.backoff_max_s,
            rng=random.Random(),  # noqa: S311 - jitter, no secret
        )

    def _connect(self) -> Session:
        return open_session(self._url, self._options)

    def _read(self, session: Session) -> AgentError | None:
        """Take clips of one connection; return why it ended, None for the end of a file."""
        taking = _Taking(self, session)
        began_s = heard_s = self._now()
        try:
            for arrival in read_packets(session, self._now):
                if self._stop.is_set():
                    return None
                if arrival is not None and arrival.packet is not None:
                    heard_s = arrival.arrived_s
                    taking.packet(arrival)
                elif session.live and self._now() - heard_s >= self._options.stall_timeout_s:
                    return ServiceAway("no picture comes", seen=redact(self._url))
        except av.FFmpegError as error:
            fault = faults.explain(error, self._url, waited_s=self._now() - began_s, limit_s=float("inf"))
            if not session.live:
                raise fault from None
            return fault
        finally:
            taking.end()
        return ServiceAway("ended by the camera", seen=redact(self._url)) if session.live else None

    def _take_pictures(self) -> None:
        backoff = self._backoff()
        while not self._stop.is_set():
            self._source = make_source(self._url, camera=self.name, pace="realtime", options=self._options)
            try:
                self._source.open()
                self._take_from(self._source)
                return
            except IOFault:
                raise
            except AgentError as error:
                if not self._patient:
                    raise
                log.warning("camera %s: %s", self.name, error)
            finally:
                self._source.close()
            self._stop.wait(backoff.next_s())

    def _take_from(self, source: FrameSource) -> None:
        clip: PictureClip | None = None
        why: Why | None = None
        began_s = next_s = 0.0
        try:
            for frame in source.frames():
                at_s = frame.captured_s
                if clip is None and (why := self.why(frame.picture, at_s)) is not None:
                    clip, began_s, next_s = PictureClip(frame.picture), at_s, at_s
                if clip is not None and at_s >= next_s:
                    clip.add(frame.picture, at_s - began_s)
                    next_s += PICTURE_S
                if self._stop.is_set():
                    return
                full = clip is not None and (at_s - began_s >= CLIP_S or clip.size_bytes >= MAX_BYTES)
                if clip is not None and why is not None and full:
                    finished, clip = clip, None
                    self.keep(finished, why)
        finally:
            if clip is not None and why is not None:
                self.keep(clip, why)

    def why(self, picture: av.VideoFrame, at_s: float) -> Why | None:
        """Return why a clip begins with `picture`, None when none does."""
        return self._watch.why(picture, at_s)

    def keep(self, clip: PacketClip | PictureClip, why: Why) -> None:
        """Put a clip that is finished on the shelf. Raises IOFault."""
        try:
            content = clip.finish()
        except av.FFmpegError as error:
            log.warning("camera %s: a clip can't be kept: %s", self.name, error.strerror)
            return
        self.shelf.put(content, self._utc(), self._watch.light, why)
        self.taken += 1


class _Taking:
    """The clips of one connection: each begins with a key frame that was looked at."""

    def __init__(self, taker: Taker, session: Session) -> None:
        self._taker, self._session = taker, session
        self._clip: PacketClip | None = None
        self._why: Why = "first"
        self._began_s = 0.0

    def packet(self, arrival: Arrival) -> None:
        """Take the next packet."""
        packet, session = arrival.packet, self._session
        if packet is None:
            return
        timed = packet.pts if packet.dts is None else packet.dts
        at_s = arrival.arrived_s if session.live or timed is None else session.seconds(timed)
        if self._clip is not None and at_s - self._began_s >= CLIP_S:
            self.end()
        if self._clip is None and packet.is_keyframe:
            self._look(arrival, at_s)
        if self._clip is not None:
            try:
                self._clip.add(packet)
            except av.FFmpegError as error:
                log.warning("camera %s: a clip ends early: %s", self._taker.name, error.strerror)
                self.end()
        if self._clip is not None and self._clip.size_bytes >= MAX_BYTES:
            self.end()

    def end(self) -> None:
        """Keep what is being taken."""
        clip, self._clip = self._clip, None
        if clip is not None:
            self._taker.keep(clip, self._why)

    def _look(self, arrival: Arrival, at_s: float) -> None:
        decoder = self._session.decoder
        try:
            pictures = [*decoder.decode(arrival.packet), *decoder.decode(None)]
        except av.FFmpegError:
            return
        finally:
            decoder.flush_buffers()
        why = self._taker.why(pictures[0], at_s) if pictures else None
        if why is not None:
            self._clip, self._why, self._began_s = PacketClip(self._session), why, at_s
