"""A live H.264 camera on loopback: encodes as it goes, burns the time strip in, and fails on command."""

from __future__ import annotations

import contextlib
import fractions
import random
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.e2e.cameras import strip
from tests.patience import HANGS_S

PYTHON_WITH_GI = "/usr/bin/python3"
SERVER = Path(__file__).with_name("rtsp_server.py")
MISSING = 77
SHIFT = b"\xff\xff\xff\xff"
"""In place of a length: 8 bytes with the seconds to add to all timestamps follow."""

Scene = Callable[[int, int, int], NDArray[np.uint8]]
"""(width, height, number) -> luma (height, width) of that frame."""


def free_port() -> int:
    """Return a TCP port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def encoder(width: int, height: int, *, fps: int, gop: int) -> av.VideoCodecContext:
    """Return a one-slice, no-delay H.264 encoder with its headers repeated at every key frame."""
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate = fractions.Fraction(1, fps), fractions.Fraction(fps)
    context.gop_size = gop
    params = "repeat-headers=1:annexb=1:sliced-threads=0:threads=1:scenecut=0"
    context.options = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": params}
    return context


def texture(width: int, height: int, number: int) -> NDArray[np.uint8]:
    """Return the luma (height, width) of a texture that moves with `number`."""
    across, down = np.arange(width), np.arange(height)[:, None]
    return (((across + 2 * number) // 16 * 13 + down // 16 * 29) % 180 + 30).astype(np.uint8)


def picture(
    width: int, height: int, number: int, scene: Scene = texture, *, chroma: int = 128, marked: bool = True
) -> av.VideoFrame:
    """Return what `scene` shows, with the time strip of this very moment where it is `marked`."""
    luma = scene(width, height, number)
    if marked:
        strip.burn(luma, counter=number, time_us=time.monotonic_ns() // 1000)
    colour = np.full((height // 2, width), chroma, np.uint8)
    frame = av.VideoFrame.from_ndarray(np.vstack([luma, colour]), format="yuv420p")
    frame.pts = number
    return frame


class RtspCamera:
    """A camera at `url`. Use as a context manager; skips the test where GstRtspServer is missing.

    `silent` True makes it send nothing while connections stay; `size` changes the resolution within the
    stream; `kill()` and `start()` are a crash and a reboot at the same address. `scene`, `chroma` and `marked`
    are what it shows, `frozen` True the same picture again and again. `damaged` is the share of units that are
    sent with bytes flipped; `shift()` moves the timestamps.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] = (320, 240),
        fps: int = 15,
        gop: int = 15,
        login: str = "",
        scene: Scene = texture,
        chroma: int = 128,
        marked: bool = True,
    ) -> None:
        self.scene, self.chroma, self.marked = scene, chroma, marked
        self.frozen, self.damaged = False, 0.0
        self._random = random.Random(1)
        self.size, self.fps, self.gop, self.login = size, fps, gop, login
        self.silent = False
        self.port = free_port()
        self.url = f"rtsp://127.0.0.1:{self.port}/cam"
        self._server: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()
        self._feeder = threading.Thread(target=self._feed, daemon=True)

    def __enter__(self) -> RtspCamera:  # noqa: PYI034 - typing.Self is not in Python 3.10
        self.start()
        self._feeder.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._feeder.join(HANGS_S)
        self.kill()

    def start(self) -> None:
        """Start the server; return when it listens."""
        command = [PYTHON_WITH_GI, str(SERVER), "127.0.0.1", str(self.port), *self.login.split()]
        if not Path(PYTHON_WITH_GI).exists():
            pytest.skip(f"{PYTHON_WITH_GI} is missing")
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if server.stdout is None or server.stdout.readline() != b"ready\n":
            server.communicate(timeout=HANGS_S)
            if server.returncode == MISSING:
                pytest.skip("python3-gi or gir1.2-gst-rtsp-server-1.0 is missing")
            pytest.fail("the RTSP server did not start")
        self._server = server

    def kill(self) -> None:
        """End the server as a power cut would."""
        server, self._server = self._server, None
        if server is None:
            return
        server.kill()
        server.wait(HANGS_S)
        for pipe in (server.stdin, server.stdout):
            with contextlib.suppress(OSError):
                pipe and pipe.close()

    def shift(self, seconds: float) -> None:
        """Stamp what follows so much later; back in time works best: what lies ahead is held until it is due."""
        self._write(SHIFT + struct.pack(">d", seconds))

    def _feed(self) -> None:
        number, size, due_s, context = 0, (0, 0), time.monotonic(), None
        shown: av.VideoFrame | None = None
        while not self._ended.wait(max(0.0, due_s - time.monotonic())):
            due_s += 1 / self.fps
            if context is None or size != self.size:
                size = self.size
                context, shown = encoder(*size, fps=self.fps, gop=self.gop), None
            if shown is None or not self.frozen:
                shown = picture(*size, number, self.scene, chroma=self.chroma, marked=self.marked)
            shown.pts = number
            unit = b"".join(bytes(packet) for packet in context.encode(shown))
            number += 1
            if self._random.random() < self.damaged:
                unit = self._damage(unit)
            if not self.silent:
                self._write(len(unit).to_bytes(4, "big") + unit)

    def _damage(self, unit: bytes) -> bytes:
        """Flip bytes behind the headers."""
        changed = bytearray(unit)
        for _ in range(max(3, len(unit) // 200)):
            changed[self._random.randrange(len(unit) // 4, len(unit))] = self._random.randrange(256)
        return bytes(changed)

    def _write(self, data: bytes) -> None:
        server = self._server
        if server is not None and server.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                server.stdin.write(data)
                server.stdin.flush()
