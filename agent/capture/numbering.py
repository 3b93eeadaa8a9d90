"""The number of a frame within a file that is damaged: what was lost counts too. Pure."""

from __future__ import annotations

DECODER_HOLDS = 16
"""So many frames a decoder may hold back (H.264's max_dec_frame_buffering)."""
SUSPECT_FRAMES = 2 * DECODER_HOLDS
"""For so many frames after damage a hole is laid to it."""
HOLE_STEPS = 1.5


class Numbering:
    """Numbers the frames of a file in order of presentation, one for each packet.

    In a sound file these are 0, 1, 2, ..., whatever its packets and PTS are. For a while after damage a frame
    is preceded by the lost ones: packets whose PTS lie between it and the frame before. Where packets are
    missing (`torn`) a hole in the PTS is taken to be made of usual steps.
    """

    def __init__(self) -> None:
        self._next = 0
        self._suspect = self._torn = 0
        self._unplaced = 0
        self._waiting: list[int] = []
        self._lost: set[int] = set()
        self._last: int | None = None
        self._usual = 0.0

    def packet(self, pts: int | None) -> None:
        """Note a packet that was read."""
        if pts is None:
            return
        if self._is_late(pts):
            self._unplaced += 1
            self._lost.add(pts)
        else:
            self._waiting.append(pts)

    def lost(self, pts: int | None) -> None:
        """Note that the packet is skipped, or can't be decoded."""
        self._suspect = SUSPECT_FRAMES
        self._unplaced += pts is None

    def skipped(self, pts: int) -> None:
        """Note that the packet, sound as it is, will not be decoded: its number stays free."""
        if pts in self._waiting:
            self._waiting.remove(pts)
            self._unplaced += 1
            self._last = pts if self._last is None else max(self._last, pts)

    def torn(self) -> None:
        """Note that data is missing here, with packets that will never be seen."""
        self._suspect = self._torn = SUSPECT_FRAMES

    def frame(self, pts: int | None, *, usual: float) -> int | None:
        """Return the number of the next frame; `pts` and the `usual` step in the same ticks, 0 unknown.

        None is for a frame that the decoder of a damaged stream gives out after later ones: it was counted as
        lost.
        """
        self._suspect, self._torn, self._usual = max(0, self._suspect - 1), max(0, self._torn - 1), usual
        if pts in self._lost:
            return None
        lost = 0
        if pts is None:
            self._waiting.clear()
        else:
            lost, self._last = self._lost_before(pts), pts
        number = self._next + self._unplaced + lost
        self._next, self._unplaced = number + 1, 0
        return number

    def _is_late(self, pts: int) -> bool:
        last, at_most = self._last, DECODER_HOLDS * self._usual
        return bool(self._suspect) and last is not None and last - at_most < pts < last

    def _lost_before(self, pts: int) -> int:
        """Return how many were lost between the frame before and the one of `pts`."""
        before = {waiting for waiting in self._waiting if waiting < pts}
        self._waiting = [waiting for waiting in self._waiting if waiting > pts]
        if not self._suspect:
            self._lost.clear()
            return 0
        self._lost |= before
        step = 0 if self._last is None else pts - self._last
        hole = self._torn and self._usual > 0 and step > HOLE_STEPS * self._usual
        return max(len(before), round(step / self._usual) - 1) if hole else len(before)
