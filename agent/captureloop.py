"""The capture loop of one camera: reads its source, and leaves the frames that are to be inferred in the mailbox."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from agent.backoff import LOGIN_WAIT_S
from agent.camerahealth import Signs
from agent.capture.link import CONNECTING, LinkState, away
from agent.errors import AgentError, NotPermitted
from agent.luma import luma_of
from agent.picture import PictureWatch
from agent.priority import NICE_CAPTURE, be_nice

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.backoff import Backoff
    from agent.capture import FrameSource
    from agent.mailbox import Mailbox
    from agent.messages import Frame
    from agent.sampling import Sampler

log = logging.getLogger(__name__)

_WORKED_S = 60.0
"""A source that worked for so long is no longer one that fails again and again."""
_RELEASE_S = 1.0
"""How often to look whether a driver that hangs has let its thread go: one, not one more for each try."""


class Capture:
    """Reads frames, asks the sampler, and leaves what is kept in the mailbox. Runs in a thread of its own.

    With `retry` a source that fails is told once and made anew, for ever; without it the fault ends `run`.
    Frames of a live source are left out, and counted, while the last picture looked at has a flaw, when
    they are damaged, and while `trusted` is False. `sampler` may be another one between frames.
    """

    def __init__(
        self,
        name: str,
        new_source: Callable[[], FrameSource],
        sampler: Sampler,
        mailbox: Mailbox,
        *,
        retry: Backoff | None = None,
    ) -> None:
        self._name, self._new_source, self._retry = name, new_source, retry
        self.sampler = sampler
        self._mailbox = mailbox
        self._lock = threading.Lock()
        self._source: FrameSource | None = None
        self._reading = False
        self._stop = threading.Event()
        self._told, self._opened_s = "", inf
        self._away: LinkState | None = None
        self._pictures = PictureWatch()
        self.trusted = True
        self.not_sampled = self.suppressed = 0
        self._frames_before = self._failures_before = 0

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second of the source; 0.0 while unknown, and while it is away."""
        source = self._source
        return source.frame_rate_hz if source and self.signs.link.kind == "up" else 0.0

    @property
    def idle_miss_window_s(self) -> float:
        """How long something can be in view while only key frames are decoded; 0.0 where all are."""
        source = self._source
        return source.stats.miss_window_s if source else 0.0

    @property
    def frames(self) -> int:
        """Frames so far, of all sources."""
        with self._lock:
            reading = self._source.stats.frames if self._source and self._reading else 0
            return self._frames_before + reading

    @property
    def failures(self) -> int:
        """How often a source failed or lost its connection so far."""
        with self._lock:
            reading = self._source.stats.losses if self._source and self._reading else 0
            return self._failures_before + reading

    @property
    def signs(self) -> Signs:
        """What is known of the camera now; from any thread."""
        source = self._source
        if source is None or self._away is not None:
            return Signs(self._away or CONNECTING)
        stats = source.stats
        return Signs(
            stats.link,
            live=source.live,
            packets=stats.packets,
            frames=stats.frames,
            damaged=stats.undecodable_packets + stats.corrupt_frames,
            clock_jumps=stats.clock_jumps,
            rare_s=stats.miss_window_s,
            awaiting_key=stats.awaiting_key,
            flaw=self._pictures.flaw,
        )

    def run(self) -> None:
        """Read until the source ends or is closed; the mailbox is then closed. Raises AgentError without retry."""
        be_nice(NICE_CAPTURE)
        try:
            while not self._ended():
                pass
        finally:
            self._mailbox.close()

    def close(self) -> None:
        """End `run` soon; from any thread, before it too."""
        self._stop.set()
        with self._lock:
            if self._source is not None:
                self._source.close()

    def _ended(self) -> bool:
        """Read one source; after a fault wait, and return False for another try. Raises what it met."""
        try:
            self._read()
        except Exception as fault:
            if self._stop.is_set() and isinstance(fault, AgentError):
                return True
            if self._retry is None:
                raise
            self._wait_after(fault, self._retry)
            return self._stop.is_set()
        return True

    def _read(self) -> None:
        with self._lock:
            source = self._source = self._new_source()
            self._reading = True
        if self._stop.is_set():
            return
        self._mailbox.forgive()
        try:
            source.open()
            self._opened_s, self._away = time.monotonic(), None
            if self._told:
                log.warning("camera %s: works again", self._name)
                self._told = ""
            for frame in source.frames():
                if source.live and not self._believes(frame):
                    self.suppressed += 1
                elif self.sampler.keep(frame.time_s, partial(luma_of, frame.picture)):
                    self._mailbox.put(frame)
                else:
                    self.not_sampled += 1
        finally:
            source.close()
            with self._lock:
                self._frames_before += source.stats.frames
                self._failures_before += source.stats.losses
                self._reading = False
            log.debug("camera %s: %s", self._name, source.stats)

    def _believes(self, frame: Frame) -> bool:
        self._pictures.see(frame.picture, time.monotonic())
        return self.trusted and not (self._pictures.flaw.kind or frame.picture.is_corrupt)

    def _wait_after(self, fault: Exception, retry: Backoff) -> None:
        if time.monotonic() - self._opened_s >= _WORKED_S:
            retry.reset()
        self._opened_s, self._away = inf, away(fault)
        with self._lock:
            self._failures_before += 1
        text = str(fault).removeprefix(f"camera {self._name}: ")
        if not isinstance(fault, AgentError):  # of ours or of a library: the other cameras go on
            text = f"{type(fault).__name__}: {text}"
            log.debug("camera %s: internal error", self._name, exc_info=fault)
        if text != self._told:
            log.warning("camera %s: %s", self._name, text)
            self._told = text
        wait_s = retry.next_s(at_least_s=LOGIN_WAIT_S if isinstance(fault, NotPermitted) else 0.0)
        while not self._stop.wait(wait_s) and self._source is not None and not self._source.released:
            wait_s = _RELEASE_S
