"""USB and other V4L2 cameras: `v4l2:/dev/video0?size=1280x720&fps=30&format=mjpeg`.

FFmpeg's own V4L2 input is not used: its pictures lie in the driver's buffers, which are unmapped when the
device is closed (PyAV 18.1 then crashes), and it waits for ever on a camera that falls silent.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import select
import stat
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent.capture import deviceurl, videodev
from agent.capture.grabbing import GrabSource
from agent.capture.handover import Grab
from agent.capture.pixels import unpacker
from agent.errors import AgentError, BadConfig, BadData, InputMissing, NotPermitted, ServiceAway

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.capture import FrameSource, Pace, SourceStats, StreamOptions
    from agent.capture.deviceurl import DeviceUrl
    from agent.capture.grabbing import Connect

FORMATS = {
    "MJPG": "mjpeg",
    "JPEG": "mjpeg",
    "YUYV": "yuyv422",
    "NV12": "nv12",
    "YU12": "yuv420p",
    "UYVY": "uyvy422",
    "GREY": "gray",
    "RGB3": "rgb24",
    "BGR3": "bgr24",
}
"""V4L2's four letters -> FFmpeg's name, the ones to prefer first: USB 2 carries 1080p30 as MJPG alone."""
BUFFERS = 4
STAMP_TRUST_S = 2.0
"""A stamp that is older than this, or from the future, is not the time of capture."""
NOT_CAPTURE = "not a capture device"
FIX_LIST = "`edge-agent cameras` lists what is attached"
FIX_GROUP = "add the user to the group video: sudo usermod -aG video USER, then log in again"


def source(url: str, *, camera: str, pace: Pace, options: StreamOptions) -> FrameSource:
    """Return the source, not opened yet. Raises UsageError."""
    device = deviceurl.parse(url, keys=("size", "fps", "format"))
    connect: Connect = partial(V4l2Grabber, device)
    return GrabSource(url, connect, camera=camera, pace=pace, options=options)


class V4l2Grabber:
    """An open camera that streams. Raises AgentError at construction."""

    live = True

    def __init__(self, device: DeviceUrl, stats: SourceStats, stopped: Callable[[], bool]) -> None:  # noqa: ARG002
        self._path, self._stats = device.target, stats
        self._maps: list[mmap.mmap] = []
        self._fd = open_device(device.target)
        try:
            self._set_up(device)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise explain(error, device.target) from None
            raise

    def grab(self, timeout_s: float) -> Grab | None:
        """Return the newest picture, None after `timeout_s`. Raises AgentError."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        try:
            if not poll.poll(timeout_s * 1000):
                return None
            buffer = self._newest()
        except OSError as error:
            raise explain(error, self._path) from None
        if buffer is None:
            time.sleep(0.01)  # a device that is gone is always ready: not in a tight loop
            return None
        try:
            return self._picture(buffer)
        finally:
            self._queue(buffer)

    def close(self) -> None:
        """Stop streaming and release the device."""
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._fd, videodev.STREAMOFF, ctypes.c_int(videodev.CAPTURE))
        for mapping in self._maps:
            with contextlib.suppress(BufferError):  # a picture that failed half-way still looks into it
                mapping.close()
        self._maps.clear()
        os.close(self._fd)

    def _set_up(self, device: DeviceUrl) -> None:
        letters = choose(device.format, videodev.formats(self._fd), device.target)
        form = videodev.Format(type=videodev.CAPTURE, pixelformat=videodev.code_of(letters))
        form.width, form.height = device.size or (1280, 720)
        fcntl.ioctl(self._fd, videodev.S_FMT, form)
        got = videodev.fourcc(form.pixelformat)
        if got not in FORMATS:
            raise BadData("the camera gives a format we can't read", seen=got, fix="set another format=")
        self._unpack = unpacker(FORMATS[got], (form.width, form.height), form.bytesperline)
        self.frame_rate_hz = self._set_rate(device.fps)
        request = videodev.BufferRequest(count=BUFFERS, type=videodev.CAPTURE, memory=videodev.MMAP)
        fcntl.ioctl(self._fd, videodev.REQBUFS, request)
        for index in range(request.count):
            buffer = videodev.Buffer(index=index, type=videodev.CAPTURE, memory=videodev.MMAP)
            fcntl.ioctl(self._fd, videodev.QUERYBUF, buffer)
            self._maps.append(
                mmap.mmap(self._fd, buffer.length, mmap.MAP_SHARED, mmap.PROT_READ, offset=buffer.offset)
            )
            fcntl.ioctl(self._fd, videodev.QBUF, buffer)
        fcntl.ioctl(self._fd, videodev.STREAMON, ctypes.c_int(videodev.CAPTURE))

    def _set_rate(self, fps: int | None) -> float:
        """Ask for `fps`; return what the camera says it gives, 0.0 where it does not say."""
        wanted = videodev.StreamParameters(type=videodev.CAPTURE, numerator=1, denominator=fps or 30)
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._fd, videodev.S_PARM, wanted)
            return float(wanted.denominator / wanted.numerator) if wanted.numerator else 0.0
        return 0.0

    def _newest(self) -> videodev.Buffer | None:
        """Take every buffer that is full, give all but the newest back."""
        newest = None
        while True:
            buffer = videodev.Buffer(type=videodev.CAPTURE, memory=videodev.MMAP)
            try:
                fcntl.ioctl(self._fd, videodev.DQBUF, buffer)
            except BlockingIOError:
                return newest
            except OSError:
                if newest is None:
                    raise
                return newest
            if buffer.flags & videodev.BUFFER_ERROR or not buffer.bytesused:
                self._stats.undecodable_packets += 1
                self._queue(buffer)
                continue
            if newest is not None:
                self._stats.late_packets += 1
                self._queue(newest)
            newest = buffer

    def _queue(self, buffer: videodev.Buffer) -> None:
        with contextlib.suppress(OSError):  # of a device that is gone: the next grab says so
            fcntl.ioctl(self._fd, videodev.QBUF, buffer)

    def _picture(self, buffer: videodev.Buffer) -> Grab | None:
        arrived_s = time.monotonic()
        picture = self._unpack(np.frombuffer(self._maps[buffer.index], np.uint8)[: buffer.bytesused])
        if picture is None:
            self._stats.undecodable_packets += 1
            return None
        stamp_s = buffer.stamp_s + buffer.stamp_us / 1e6
        monotonic = buffer.flags & videodev.STAMP_MASK == videodev.STAMP_MONOTONIC
        if monotonic and abs(arrived_s - stamp_s) < STAMP_TRUST_S:
            return Grab(picture, stamp_s, stamp_s)
        return Grab(picture, arrived_s, arrived_s)


def choose(wanted: str | None, offered: list[str], path: str) -> str:
    """Return the four letters to ask for. Raises BadConfig for what is not offered, BadData for a raw sensor."""
    usable = [letters for letters in FORMATS if letters in offered]
    if not usable:
        seen = f"{path} offers {', '.join(offered) or 'nothing'}"
        raise BadData("not a camera we can read", seen=seen, fix="for a Raspberry Pi camera use picamera:0")
    if wanted is None:
        return usable[0]
    for letters in usable:
        if wanted.lower() in (letters.lower(), FORMATS[letters]):
            return letters
    raise BadConfig(
        "the camera does not offer this format", seen=f"format={wanted}", fix=f"it has: {', '.join(usable)}"
    )


def open_device(path: str) -> int:
    """Return a file descriptor of the capture device. Raises AgentError."""
    try:
        if not stat.S_ISCHR(Path(path).stat().st_mode):
            raise BadData(NOT_CAPTURE, seen=path, fix=FIX_LIST)
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise explain(error, path) from None
    try:
        captures = videodev.card(fd).captures
    except OSError:
        captures = False
    if not captures:
        os.close(fd)
        raise BadData(NOT_CAPTURE, seen=path, fix=FIX_LIST)
    return fd


def explain(error: OSError, path: str) -> AgentError:
    """Return what `error` means for the camera at `path`."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return InputMissing("no such camera", seen=path, fix=FIX_LIST)
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotPermitted("not allowed to open the camera", seen=path, fix=FIX_GROUP)
    if error.errno == errno.EBUSY:
        return ServiceAway("the camera is in use", seen=path, fix=f"see who has it: fuser -v {path}")
    if error.errno in (errno.ENODEV, errno.ENXIO):
        return ServiceAway("the camera is unplugged", seen=path, fix="check its cable")
    if error.errno == errno.EISDIR:
        return BadData(NOT_CAPTURE, seen=path, fix=FIX_LIST)
    return ServiceAway("the camera fails", seen=f"{path} ({error.strerror})", fix="plug it in anew")
