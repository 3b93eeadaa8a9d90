"""Makes frames of a stream's pictures: their number in the source and their time, over losses and omissions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.capture.numbering import Numbering
from agent.messages import Frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av.video.frame import VideoFrame

    from agent.capture import SourceStats
    from agent.capture.opening import Session
    from agent.capture.packets import Arrival
    from agent.capture.timeline import Timeline


class Framing:
    """Told of every packet in order, whether it is decoded or not; `begin` comes first, for each session."""

    def __init__(self, *, camera: str, stats: SourceStats, timeline: Timeline) -> None:
        self._camera, self._stats, self._timeline = camera, stats, timeline
        self._numbering = Numbering()
        self._session: Session | None = None
        self._format: tuple[int, int, str] | None = None
        self._first_s = self._last_s = 0.0

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second as measured so far, 0.0 while unknown."""
        return self._timeline.frame_rate_hz

    @property
    def span_s(self) -> float:
        """Time from the first frame to the last."""
        return self._last_s - self._first_s

    def begin(self, session: Session) -> None:
        """Start, or go over to another connection: its own time line."""
        self._session = session
        self._stats.codec = session.decoder.name
        self._timeline.begin(session.frame_rate_hz)

    def packet(self, arrival: Arrival) -> None:
        """Note a packet that was read."""
        if arrival.packet is None or arrival.session.live:
            return
        self._numbering.packet(arrival.packet.pts)
        if arrival.torn:
            self._numbering.torn()

    def lost(self, arrival: Arrival) -> None:
        """Note that a packet can't be decoded."""
        if arrival.packet is not None and not arrival.session.live:
            self._numbering.lost(arrival.packet.pts)

    def skip(self, packets: Sequence[tuple[int, float]]) -> None:
        """Leave out packets (PTS in ticks, arrival) that were sound: they keep their number and their time."""
        session = self._session
        if session is None:
            return
        self._stats.packets_not_decoded += len(packets)
        for pts, arrived_s in packets:
            if not session.live:
                self._numbering.skipped(pts)
            self._timeline.skip(pts, session, arrived_s=arrived_s)

    def keep_pace(self, arrival: Arrival) -> None:
        """Wait until it is the turn of a packet that may never be decoded."""
        if arrival.packet is not None and arrival.packet.pts is not None:
            self._timeline.keep_pace(arrival.packet.pts, arrival.session)

    def frame(self, picture: VideoFrame, arrival: Arrival) -> Frame | None:
        """Return `picture` as a frame, None if it comes after later ones; on a clip wait for its turn."""
        stats, session = self._stats, arrival.session
        seq = stats.frames + stats.packets_not_decoded if session.live else self._number(picture, session)
        if seq is None:
            stats.disordered_frames += 1
            return None
        self._note_format(picture)
        moment = self._timeline.place(picture, session, arrived_s=arrival.arrived_s)
        self._first_s, self._last_s = (self._first_s if stats.frames else moment.time_s), moment.time_s
        stats.frames += 1
        stats.corrupt_frames += picture.is_corrupt
        return Frame(self._camera, seq, *moment, picture)

    def _number(self, picture: VideoFrame, session: Session) -> int | None:
        rate_hz = self._timeline.frame_rate_hz
        usual = 1 / (rate_hz * float(session.time_base)) if rate_hz else 0.0
        return self._numbering.frame(picture.pts, usual=usual)

    def _note_format(self, picture: VideoFrame) -> None:
        seen = (picture.width, picture.height, picture.format.name)
        if self._format not in (None, seen):
            self._stats.resolution_changes += 1
        self._format = seen
