"""Carries out what the gate decides: looks at key frames, keeps packets, and decodes them when woken."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from av.video.frame import PictureType

from agent.capture.gate import LOOK_S, Gate
from agent.capture.packets import Arrival, Kept
from agent.luma import block_means, luma_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from av.video.frame import VideoFrame

    from agent.capture import SourceStats
    from agent.capture.gate import Blocks

    Skipped = Sequence[tuple[int, float]]
    """PTS in ticks, ascending, and arrival of packets."""

MAX_FAILED_LOOKS = 3
log = logging.getLogger(__name__)


class IdleDecoder:
    """Gives the pictures of packets: all of them while awake, key frames alone in idle.

    `decode` feeds one packet (its `packet` None: the end) to the decoder of its session and returns pictures.
    `skip` is told of the packets that are never decoded, before any picture after them is given. `settle` is
    called when many are about to be decoded at once. A key frame that was given in idle is decoded again,
    as the base of those after it, but not given again. It is given once a packet comes that is to be shown
    after it, and not before those that lead it, which without it can't be decoded.
    """

    def __init__(
        self,
        *,
        camera: str,
        stats: SourceStats,
        busy: Callable[[], bool],
        decode: Callable[[Arrival], list[VideoFrame]],
        skip: Callable[[Skipped], None],
        settle: Callable[[], None],
    ) -> None:
        self._camera, self._stats = camera, stats
        self._decode, self._skip, self._settle = decode, skip, settle
        self._gate, self._kept = Gate(busy), Kept()
        self.restart()

    def restart(self) -> None:
        """Begin anew with a key frame: another connection, or packets are missing."""
        self._gate.restart()
        self._give_up(self._kept.take())
        self._resting = self._told = False
        self._based = True
        self._failed_looks = 0
        self._key_pts: int | None = None
        self._shown: tuple[VideoFrame, Arrival] | None = None
        self._given_pts: int | None = None
        self._from_pts: int | None = None

    @property
    def idle(self) -> bool:
        """Packets are kept, not decoded."""
        return self._gate.idle

    def pictures(self, arrival: Arrival) -> Iterator[tuple[VideoFrame, Arrival]]:
        """Yield the pictures that `arrival` brings about, each with the packet that completed it."""
        packet, time_s = arrival.packet, _time_s(arrival)
        if packet is None or time_s is None:
            yield from self._unplaced(arrival)
            return
        verdict = self._gate.packet(key=packet.is_keyframe, size_bytes=packet.size, time_s=time_s)
        if verdict == "decode":
            yield from self._pass(arrival)
        elif verdict == "look":
            yield from self._look(arrival)
        else:
            yield from self._keep(arrival, packet.pts, woken=verdict == "wake")
        self._tell()

    def _keep(
        self, arrival: Arrival, pts: int | None, *, woken: bool
    ) -> Iterator[tuple[VideoFrame, Arrival]]:
        """Keep what can be decoded from the last key frame on; give that frame when it is its turn."""
        leads = self._key_pts is not None and pts is not None and pts < self._key_pts
        self._give_up([arrival] if leads else self._kept.add(arrival))
        if woken:
            yield from self._catch_up()
        elif not leads:
            yield from self._show()

    def _show(self) -> Iterator[tuple[VideoFrame, Arrival]]:
        if self._shown is not None:
            shown, self._shown = self._shown, None
            self._given_pts = shown[0].pts
            yield shown

    def _unplaced(self, arrival: Arrival) -> Iterator[tuple[VideoFrame, Arrival]]:
        """Decode a packet without a time, or the end; first what is kept: something may be in it."""
        if self._gate.idle:
            yield from self._catch_up()
        self._gate.restart()
        yield from self._pass(arrival)

    def _pass(self, arrival: Arrival) -> Iterator[tuple[VideoFrame, Arrival]]:
        packet = arrival.packet
        if packet is not None and packet.is_keyframe:
            self._based, self._key_pts = True, packet.pts
        if packet is not None and not self._based:
            self._give_up([arrival])
            return
        for picture in self._decode(arrival):
            if self._is_new(picture, arrival):
                self._watch(picture)
                yield picture, arrival

    def _is_new(self, picture: VideoFrame, arrival: Arrival) -> bool:
        """Tell whether `picture` follows those given; one that leads its key frame lacks what it refers to."""
        if self._from_pts is None or picture.pts is None:
            return True
        if picture.pts >= self._from_pts:
            self._from_pts = self._from_pts if picture.pts == self._from_pts else None
            return True
        if picture.pts != self._given_pts:
            self._skip([(picture.pts, arrival.arrived_s)])
        return False

    def _watch(self, picture: VideoFrame) -> None:
        if picture.pts is not None and picture.pts == self._key_pts and not _is_whole(picture):
            self._gate.cannot_look()
        if self._gate.wants_picture():
            self._gate.watched(_blocks(picture))

    def _look(self, arrival: Arrival) -> Iterator[tuple[VideoFrame, Arrival]]:
        """Decode a key frame alone; give it, or if it shows a change all that was kept before it."""
        decoder, end = arrival.session.decoder, Arrival(None, arrival.session, arrival.arrived_s)
        yield from self._show()
        if not self._resting:
            yield from self._pass(end)
            decoder.flush_buffers()
            self._resting = True
            log.info("camera %s: idle, key frames alone are decoded", self._camera)
        pictures = [*self._decode(arrival), *self._decode(end)]
        decoder.flush_buffers()
        shown = next((picture for picture in pictures if _is_whole(picture)), None)
        if shown is None or self._gate.looked(_blocks(shown)) or not self._gate.idle:
            if shown is None:
                self._failed()
            self._give_up(self._kept.add(arrival))
            yield from self._catch_up()
            return
        self._give_up(self._kept.take())
        self._give_up(self._kept.add(arrival))
        self._shown, self._key_pts = (shown, arrival), shown.pts

    def _failed(self) -> None:
        """Stay awake after a key frame that gave no picture, for good when it goes on."""
        self._failed_looks += 1
        self._gate.restart()
        if self._failed_looks >= MAX_FAILED_LOOKS:
            self._gate.cannot_look()

    def _catch_up(self) -> Iterator[tuple[VideoFrame, Arrival]]:
        kept = self._kept.take()
        self._resting, self._based, self._shown = False, bool(kept), None
        base_pts = kept[0].packet.pts if kept and kept[0].packet else None
        self._from_pts = None if base_pts is None else base_pts + (base_pts == self._given_pts)
        self._settle()
        log.info("camera %s: awake, all is decoded", self._camera)
        for arrival in kept:
            yield from self._pass(arrival)

    def _give_up(self, arrivals: list[Arrival]) -> None:
        """Never decode `arrivals`; the key frame that was looked at is not among what is lost."""
        if not arrivals:
            return
        lost = [(a.packet.pts, a.arrived_s) for a in arrivals if a.packet and a.packet.pts is not None]
        ticks = sorted(pts for pts, _ in lost if pts != self._given_pts)
        arrived_s = sorted(at_s for pts, at_s in lost if pts != self._given_pts)
        self._skip(list(zip(ticks, arrived_s, strict=True)))

    def _tell(self) -> None:
        """Bring the counters up to date, and say once what stands in the way, or is to be known."""
        gate, stats = self._gate, self._stats
        wakes = gate.wakes
        stats.wakes_motion, stats.wakes_sizes = wakes["motion"], wakes["sizes"]
        stats.wakes_busy, stats.wakes_overdue = wakes["busy"], wakes["overdue"]
        stats.idle_s, stats.miss_window_s = gate.idle_s, gate.miss_window_s
        if self._told:
            return
        if gate.obstacle is not None:
            self._told = True
            log.warning("camera %s: decodes all, idle or not: %s", self._camera, gate.obstacle)
        elif gate.idle and gate.all_key:
            self._told = True
            log.info("camera %s: every packet is a key frame: in idle one in %g s", self._camera, LOOK_S)


def _time_s(arrival: Arrival) -> float | None:
    """Return the packet's time in the stream, None where it has none."""
    packet, session = arrival.packet, arrival.session
    if packet is None or packet.pts is None:
        return None
    if session.live and not session.timed:
        return arrival.arrived_s
    ticks = packet.pts if packet.dts is None else packet.dts
    return session.seconds(ticks)


def _is_whole(picture: VideoFrame) -> bool:
    """Tell whether `picture` refers to no other: what begins an intra refresh is no key frame, whatever it says."""
    return picture.pict_type == PictureType.I


def _blocks(picture: VideoFrame) -> Blocks | None:
    luma = luma_of(picture)
    return None if luma is None else block_means(luma)
