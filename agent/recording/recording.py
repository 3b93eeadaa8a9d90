"""Records several cameras at once, for a time or until a signal."""

from __future__ import annotations

import logging
import queue
import shutil
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import UsageError
from agent.recording.plan import LIGHTS
from agent.recording.shelf import Shelf
from agent.recording.taking import Taker
from agent.signals import signals_into

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.capture import StreamOptions

log = logging.getLogger(__name__)

LEAST_QUOTA_BYTES = 10_000_000
"""Of each camera: a clip or two."""
_STOP_S = 3.0


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera to record: `url` may hold a login."""

    name: str
    url: str
    options: StreamOptions


@dataclass(frozen=True, slots=True)
class Recorded:
    """What lies in the folder of a camera afterwards, and how many clips of this run gave way to others."""

    camera: str
    folder: str
    taken: int
    given_up: int
    clips: int
    size_bytes: int
    by_light: dict[str, int]


def record(
    cameras: Sequence[Camera], out: Path, *, for_s: float, quota_bytes: int, patient: bool
) -> list[Recorded]:
    """Record until `for_s` is over, all sources have ended, or SIGTERM, SIGINT or SIGHUP comes.

    Each camera has a folder of its own in `out`, and its share of the quota. Raises AgentError: the first
    fault of a disk ends it all; without `patient` so does one of a source.
    """
    each_bytes = quota_bytes // len(cameras)
    if each_bytes < LEAST_QUOTA_BYTES:
        fix = f"give at least {LEAST_QUOTA_BYTES * len(cameras) // 1_000_000} MB"
        raise UsageError("--quota", seen=f"{quota_bytes} bytes for {len(cameras)} cameras", fix=fix)
    stop = threading.Event()
    takers = [
        Taker(
            camera.name,
            camera.url,
            Shelf(out / camera.name, each_bytes),
            for_s=for_s,
            options=camera.options,
            stop=stop,
            patient=patient,
        )
        for camera in cameras
    ]
    _warn_of_space(out, [taker.shelf for taker in takers], quota_bytes)
    happenings: queue.SimpleQueue[str | _Ended] = queue.SimpleQueue()
    fault: BaseException | None = None
    with signals_into(happenings, reload=False):
        threads = [_start(taker, happenings) for taker in takers]
        try:
            fault = _wait(happenings, len(threads), time.monotonic() + for_s)
        finally:
            stop.set()
            for taker in takers:
                taker.close()
            deadline_s = time.monotonic() + _STOP_S
            for thread in threads:
                thread.join(max(0.0, deadline_s - time.monotonic()))
    while fault is None and not happenings.empty():
        ended = happenings.get()
        fault = ended.fault if isinstance(ended, _Ended) else None
    if fault is not None:
        raise fault
    return [_recorded(taker) for taker in takers]


@dataclass(frozen=True, slots=True)
class _Ended:
    fault: BaseException | None


def _warn_of_space(out: Path, shelves: Sequence[Shelf], quota_bytes: int) -> None:
    """Say so when the disk will be full before the quota is."""
    there_bytes = sum(clip.size_bytes for shelf in shelves for clip in shelf.clips())
    free_bytes = shutil.disk_usage(out).free
    if free_bytes + there_bytes < quota_bytes:
        log.warning("%s: %.1f GB free is less than the quota: it may fill the disk", out, free_bytes / 1e9)


def _start(taker: Taker, happenings: queue.SimpleQueue[str | _Ended]) -> threading.Thread:
    def take() -> None:
        fault: BaseException | None = None
        try:
            taker.run()
        except BaseException as error:  # noqa: BLE001  it is raised again in the main thread
            fault = error
        happenings.put(_Ended(fault))

    thread = threading.Thread(target=take, name=f"record {taker.name}", daemon=True)
    thread.start()
    return thread


def _wait(happenings: queue.SimpleQueue[str | _Ended], running: int, until_s: float) -> BaseException | None:
    """Return the first fault; None when all have ended, the time is over, or a signal came."""
    while running:
        try:
            happened = happenings.get(timeout=max(0.0, until_s - time.monotonic()))
        except queue.Empty:
            return None
        if isinstance(happened, str):
            return None
        if happened.fault is not None:
            return happened.fault
        running -= 1
    return None


def _recorded(taker: Taker) -> Recorded:
    clips = taker.shelf.clips()
    return Recorded(
        taker.name,
        str(taker.shelf.folder),
        taker.taken,
        taker.shelf.given_up,
        len(clips),
        sum(clip.size_bytes for clip in clips),
        {light: sum(clip.light == light for clip in clips) for light in LIGHTS},
    )
