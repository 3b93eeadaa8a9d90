"""Raspberry Pi cameras by Picamera2: `picamera:0?size=1280x720&fps=30`.

Picamera2 comes with Raspberry Pi OS (apt), never from PyPI: it belongs to the system's libcamera. Its manual:
https://datasheets.raspberrypi.com/camera/picamera2-manual.pdf
"""

from __future__ import annotations

import contextlib
import importlib
import time
from concurrent.futures import TimeoutError as JobTimeoutError
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.capture import deviceurl
from agent.capture.grabbing import GrabSource
from agent.capture.handover import Grab
from agent.capture.monotonic import ahead_ns
from agent.capture.pixels import copied
from agent.errors import AgentError, InputMissing, NotPermitted, ServiceAway

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.capture import FrameSource, Pace, SourceStats, StreamOptions
    from agent.capture.deviceurl import DeviceUrl
    from agent.capture.grabbing import Connect

STREAM, FORMAT = "main", "YUV420"
FIX_PACKAGE = (
    "apt install python3-picamera2 (Raspberry Pi OS), and make the virtual environment with"
    " --system-site-packages"
)


def source(url: str, *, camera: str, pace: Pace, options: StreamOptions) -> FrameSource:
    """Return the source, not opened yet. Raises UsageError."""
    device = deviceurl.parse(url)
    connect: Connect = partial(PicameraGrabber, device, deviceurl.camera_number(device, url))
    return GrabSource(url, connect, camera=camera, pace=pace, options=options)


class PicameraGrabber:
    """A started camera. Raises AgentError at construction.

    At most one capture is asked for at a time. It is of a frame that ends after it was asked for (`queue`
    False), and its request goes back to the camera as soon as its pixels are copied.
    """

    live = True

    def __init__(
        self,
        device: DeviceUrl,
        number: int,
        stats: SourceStats,  # noqa: ARG002 - a Connect
        stopped: Callable[[], bool],  # noqa: ARG002
    ) -> None:
        library = load()
        self._name = f"picamera:{number}"
        found = cameras(library)
        if number >= len(found):
            seen = f"{self._name}, {len(found)} found"
            raise InputMissing(
                "no such camera", seen=seen, fix="check the ribbon cable; rpicam-hello --list-cameras"
            )
        self.frame_rate_hz = float(device.fps or 30)
        self._asked: Any = None  # a job of Picamera2
        try:
            self._camera = library.Picamera2(number)
        except (RuntimeError, OSError, IndexError) as error:
            raise _fault(error, self._name) from None
        try:
            self._start(device.size or (1280, 720))
        except (RuntimeError, OSError, ValueError) as error:
            self.close()
            raise _fault(error, self._name) from None

    def grab(self, timeout_s: float) -> Grab | None:
        """Return the next picture, None after `timeout_s`. Raises AgentError."""
        try:
            if self._asked is None:
                self._asked = self._camera.capture_request(wait=False)
            request = self._asked.get_result(timeout=timeout_s)
        except (TimeoutError, JobTimeoutError):
            return None
        except (RuntimeError, OSError) as error:
            self._asked = None
            raise _fault(error, self._name) from None
        self._asked = None
        try:
            data, metadata = request.make_buffer(STREAM), request.get_metadata()
        finally:
            request.release()
        picture = copied(data, self._size, "yuv420p", self._strides_bytes)
        captured_s = _monotonic_s(metadata.get("SensorTimestamp"))
        return Grab(picture, time.monotonic() if captured_s is None else captured_s, captured_s)

    def close(self) -> None:
        """Stop the camera and release it, with a request that has come by now."""
        with contextlib.suppress(AttributeError, RuntimeError):  # not in every version; `stop` would wait
            self._camera.cancel_all_and_flush()
        with contextlib.suppress(RuntimeError, OSError):
            self._camera.stop()
        asked, self._asked = self._asked, None
        if asked is not None:
            with contextlib.suppress(Exception):  # cancelled, or never came
                asked.get_result(timeout=0).release()
        with contextlib.suppress(RuntimeError, OSError):
            self._camera.close()

    def _start(self, size: tuple[int, int]) -> None:
        self._camera.configure(
            self._camera.create_video_configuration(
                main={"size": size, "format": FORMAT},
                buffer_count=4,
                queue=False,
                controls={"FrameRate": self.frame_rate_hz},
            )
        )
        got = self._camera.camera_configuration()[STREAM]
        stride = got["stride"]
        self._size, self._strides_bytes = tuple(got["size"]), (stride, stride // 2, stride // 2)
        self._camera.start()


def load() -> Any:
    """Return the module picamera2. Raises ServiceAway where it is missing."""
    try:
        return importlib.import_module("picamera2")
    except ImportError as error:
        raise ServiceAway("Picamera2 is missing", seen=error, fix=FIX_PACKAGE) from None


def cameras(library: Any) -> list[dict[str, Any]]:
    """Return what libcamera finds: dictionaries with Model, Num, Id, without USB cameras (theirs is v4l2:)."""
    found: list[dict[str, Any]] = library.Picamera2.global_camera_info()
    return [camera for camera in found if "usb" not in str(camera.get("Id", "")).lower()]


def _monotonic_s(sensor_ns: int | None) -> float | None:
    """Return a SensorTimestamp (CLOCK_BOOTTIME) on CLOCK_MONOTONIC, which stands still in suspend."""
    if sensor_ns is None:
        return None
    return (sensor_ns - ahead_ns(lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME))) / 1e9


def _fault(error: Exception, name: str) -> AgentError:
    text = str(error) or type(error).__name__
    if isinstance(error, PermissionError):
        return NotPermitted(
            "not allowed to open the camera", seen=name, fix="add the user to the group video"
        )
    if "busy" in text.lower() or "acquire" in text.lower() or "__init__ sequence" in text:
        fix = "end the program that has it (rpicam-hello, another agent); one at a time can"
        return ServiceAway("the camera can't be opened, maybe in use", seen=f"{name} ({text})", fix=fix)
    return ServiceAway("the camera fails", seen=f"{name} ({text})", fix="check the ribbon cable")
