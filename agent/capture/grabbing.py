"""A FrameSource over anything that hands out whole pictures: a V4L2 device, Picamera2, a GStreamer pipeline.

The device is driven by one thread of its own, for native code may hang where nothing can interrupt it: then
`open()` and `frames()` still end, and the thread follows when the driver answers. Of a live source only the
newest picture waits for the consumer.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol

from agent.backoff import Backoff
from agent.capture import SourceStats, StreamOptions, faults
from agent.capture.clock import PtsClock, Steps
from agent.capture.handover import HandOver
from agent.capture.link import Link
from agent.errors import AgentError, BadData, ServiceAway, UsageError
from agent.messages import Frame
from agent.urls import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from av.video.frame import VideoFrame

    from agent.capture import Pace
    from agent.capture.handover import Grab

POLL_S = 0.25
JOIN_S = 0.5
log = logging.getLogger(__name__)


class Grabber(Protocol):
    """An open device. `live` False: it has an end, and waits for its reader. One thread uses it."""

    live: bool
    frame_rate_hz: float

    def grab(self, timeout_s: float) -> Grab | None:
        """Return the newest picture, None after `timeout_s`. Raises EOFError at the end, AgentError."""
        ...

    def close(self) -> None:
        """Release the device."""
        ...


class Connect(Protocol):
    """Opens the device: notes in `stats` what it drops, and gives up soon once `stopped()` is true."""

    def __call__(self, stats: SourceStats, stopped: Callable[[], bool]) -> Grabber:
        """Return the open device. Raises AgentError."""
        ...


class GrabSource:
    """A FrameSource whose pictures `connect` gets; a live one that is lost is opened again, with backoff."""

    def __init__(
        self,
        url: str,
        connect: Connect,
        *,
        camera: str,
        pace: Pace,
        options: StreamOptions,
        now: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.stats = SourceStats()
        self._url, self._connect, self._camera, self._pace = url, connect, camera, pace
        self._options, self._now = options, now
        self._steps, self._last_s = Steps(), float("-inf")
        self._pts_clock = PtsClock()
        self._opens = self._opens_seen = 0
        self._format: tuple[int, int, str] | None = None
        self._called_s: float | None = None
        self._stop = threading.Event()
        self._link = Link(
            camera=camera,
            stats=self.stats,
            backoff=Backoff(
                first_s=options.backoff_first_s,
                max_s=options.backoff_max_s,
                rng=rng or random.Random(),  # noqa: S311 - jitter, no secret
            ),
            lasting_s=options.backoff_max_s,
            stop=self._stop,
            now=now,
        )
        self._hand_over = HandOver(self.stats)
        self._first: SimpleQueue[Grabber | BaseException] = SimpleQueue()
        self._grabber: Grabber | None = None
        self._thread = threading.Thread(target=self._run, name=f"read {camera}", daemon=True)

    @property
    def live(self) -> bool:
        """A camera, without an end and with a clock of its own; known after `open()`."""
        return self._grabber.live if self._grabber else True

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second as declared, else as measured so far; 0.0 while unknown."""
        declared_hz = self._grabber.frame_rate_hz if self._grabber else 0.0
        return declared_hz or (1 / self._steps.usual_s if self._steps.usual_s else 0.0)

    @property
    def frame_count(self) -> int:
        """Unknown: 0."""
        return 0

    def open(self) -> None:
        """Open the device and wait for its first picture.

        Raises AgentError within `open_timeout_s`, ServiceAway soon after a `close()`.
        """
        limit_s = self._options.open_timeout_s
        self._thread.start()
        try:
            first = self._first.get(timeout=limit_s)
        except Empty:
            self.close()
            raise ServiceAway(
                f"no answer within {limit_s:g} s",
                seen=redact(self._url),
                fix="check the camera and its cable",
            ) from None
        if isinstance(first, BaseException):
            raise first
        self._grabber = first
        if self._stop.is_set():
            raise faults.closed(self._url)
        if self._pace == "fastest" and first.live:
            self.close()
            raise UsageError("--pace fastest needs a file", seen=redact(self._url), fix="use --pace realtime")
        log.info("camera %s: opened %s", self._camera, redact(self._url))

    def frames(self) -> Iterator[Frame]:
        """Yield frames as they come until the end or `close()`. Raises AgentError."""
        if self._grabber is None:
            raise RuntimeError("open() comes before frames()")
        try:
            while not self._stop.is_set():
                grab = self._hand_over.take(POLL_S)
                if grab is not None and not self._stop.is_set():
                    yield self._frame(grab)
                elif grab is None:
                    self._check_driver()
        except EOFError:
            return
        finally:
            self.close()

    def _check_driver(self) -> None:
        """Raise ServiceAway when the driver has not come back from a call for long."""
        called_s, limit_s = self._called_s, self._options.open_timeout_s + self._options.stall_timeout_s
        if called_s is not None and self._now() - called_s > limit_s:
            self.stats.stalls += 1
            fix = "unplug and replug the camera, or restart the device"
            raise ServiceAway("the driver does not answer", seen=redact(self._url), fix=fix)

    @contextmanager
    def _in_driver(self) -> Iterator[None]:
        self._called_s = self._now()
        try:
            yield
        finally:
            self._called_s = None

    def close(self) -> None:
        """End `open()` and `frames()` soon, from any thread; may be called twice, and before `open()`."""
        self._stop.set()
        self._first.put(faults.closed(self._url))
        self._hand_over.end(discard=True)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(JOIN_S)

    @property
    def released(self) -> bool:
        """No thread of this source runs (any more)."""
        return not self._thread.is_alive()

    def _frame(self, grab: Grab) -> Frame:
        arrived_s, seq, live = self._now(), self.stats.frames, self.live
        if self._opens_seen != self._opens:
            self._opens_seen = self._opens
            self._steps.begin(0.0)
            self._pts_clock.restart()
        self._steps.take(grab.pts_s)
        steps, stats = self._steps, self.stats
        stats.gaps, stats.pts_backwards, stats.pts_duplicate = steps.gaps, steps.backwards, steps.duplicates
        if live:
            self._pts_clock.map(grab.pts_s, arrived_s, usual_s=steps.usual_s)
            stats.clock_jumps = self._pts_clock.jumps
        self._note_format(grab.picture)
        captured_s = arrived_s
        if live and grab.captured_s is not None:
            captured_s = min(grab.captured_s, arrived_s)
        time_s = grab.pts_s if self._pace == "fastest" else captured_s
        self._last_s = max(self._last_s, time_s)
        stats.frames += 1
        return Frame(
            self._camera, seq, grab.pts_s, self._last_s, self._last_s if live else arrived_s, grab.picture
        )

    def _note_format(self, picture: VideoFrame) -> None:
        seen = (picture.width, picture.height, picture.format.name)
        if self._format not in (None, seen):
            self.stats.resolution_changes += 1
        self._format = seen

    def _run(self) -> None:
        try:
            grabber = self._opened()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits in open()
            self._first.put(error)
            return
        self._link.up()
        self._first.put(grabber)
        try:
            self._grab_all(grabber)
        except BaseException as error:  # noqa: BLE001 - raised by frames()
            self._hand_over.end(error)
        else:
            self._hand_over.end()

    def _opened(self) -> Grabber:
        """Return the open device once it has given a picture. Raises AgentError."""
        with self._in_driver():
            grabber = self._connect(self.stats, self._stop.is_set)
        self._opens += 1
        try:
            self._grab(grabber, limit_s=self._options.open_timeout_s, once=True)
        except EOFError:
            grabber.close()
            raise BadData("no frame came", seen=redact(self._url), fix="check the pipeline") from None
        except BaseException:
            grabber.close()
            raise
        return grabber

    def _grab_all(self, grabber: Grabber | None) -> None:
        while grabber is not None:
            fault: AgentError = ServiceAway("ended by the camera", seen=redact(self._url))
            stalls = self.stats.stalls
            try:
                self._grab(grabber, limit_s=self._options.stall_timeout_s)
            except EOFError:
                pass
            except AgentError as error:
                if not grabber.live:
                    raise
                fault = error
            finally:
                grabber.close()
            if self._stop.is_set() or not grabber.live:
                return
            grabber = self._link.regain(self._opened, fault, silent=self.stats.stalls > stalls)

    def _grab(self, grabber: Grabber, *, limit_s: float, once: bool = False) -> None:
        last_s = self._now()
        while not self._stop.is_set():
            with self._in_driver():
                grab = grabber.grab(POLL_S)
            if grab is not None:
                self.stats.packets += 1
                self._hand_over.put(grab, replace=grabber.live)
                last_s = self._now()
                if once:
                    return
            elif self._now() - last_s >= limit_s:
                self.stats.stalls += 1
                raise ServiceAway(
                    f"no frame for {limit_s:g} s", seen=redact(self._url), fix="check the camera"
                )
