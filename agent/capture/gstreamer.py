"""Any GStreamer pipeline: `gstreamer:v4l2src ! ...`, and a Jetson's CSI cameras: `csi:0?size=1280x720&fps=30`.

Needs PyGObject and GStreamer of the system (apt), which a virtual environment sees with
--system-site-packages alone. Pictures are pulled by the thread that grabs, never pushed to Python by one of
GStreamer's, and copied out of the pipeline's pool.
"""

from __future__ import annotations

import importlib
import re
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.capture import deviceurl, faults
from agent.capture.grabbing import GrabSource
from agent.capture.handover import Grab
from agent.capture.monotonic import ahead_ns
from agent.capture.pixels import copied
from agent.errors import AgentError, BadData, InputMissing, NotPermitted, ServiceAway, UsageError
from agent.urls import redact

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.capture import FrameSource, Pace, SourceStats, StreamOptions
    from agent.capture.grabbing import Connect

FORMATS = {
    "I420": "yuv420p",
    "NV12": "nv12",
    "YUY2": "yuyv422",
    "UYVY": "uyvy422",
    "GRAY8": "gray",
    "RGB": "rgb24",
    "BGR": "bgr24",
}
"""GStreamer's name of a format -> FFmpeg's."""
CAPS = f"video/x-raw,format=(string){{{','.join(FORMATS)}}}"
SINK = 'videoconvert ! appsink caps="video/x-raw,format=(string){I420,NV12,YUY2,UYVY,GRAY8}"'
CSI = (
    "nvarguscamerasrc sensor-id={number} ! video/x-raw(memory:NVMM),width={width},height={height},"
    "framerate={fps}/1 ! nvvidconv ! video/x-raw,format=NV12 ! appsink"
)
FIX_BINDINGS = (
    "apt install python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good, and make the virtual"
    " environment with --system-site-packages"
)
JETPACK = "it comes with JetPack: apt install nvidia-l4t-gstreamer (on a Jetson)"
PACKAGES = {
    "nv": JETPACK,
    "libcamerasrc": "apt install gstreamer1.0-libcamera",
    "avdec_": "apt install gstreamer1.0-libav",
    "v4l2": "apt install gstreamer1.0-plugins-good",
    "rtsp": "apt install gstreamer1.0-plugins-good",
    "rtph": "apt install gstreamer1.0-plugins-good",
    "h264parse": "apt install gstreamer1.0-plugins-bad",
    "h265parse": "apt install gstreamer1.0-plugins-bad",
    "x264": "apt install gstreamer1.0-plugins-ugly",
}
"""How an element's name begins -> what brings it."""
FIX_ELEMENT = (
    "check its name with gst-inspect-1.0; apt install gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"
)
FIX_TRY = "try it with gst-launch-1.0"
NO_ELEMENT = 1
"""GST_PARSE_ERROR_NO_SUCH_ELEMENT."""
NOT_FOUND, BUSY, NOT_AUTHORIZED = 3, 4, 15
"""GstResourceError."""
STEP_NS = 100_000_000
NO_TIME = 2**64 - 1


def source(url: str, *, camera: str, pace: Pace, options: StreamOptions) -> FrameSource:
    """Return the source of gstreamer:PIPELINE, not opened yet. Raises UsageError."""
    pipeline = url.partition(":")[2].strip()
    if not pipeline:
        raise UsageError("no pipeline", seen=url, fix="for example gstreamer:videotestsrc is-live=true")
    return _grabbed(url, pipeline, camera, pace, options)


def csi_source(url: str, *, camera: str, pace: Pace, options: StreamOptions) -> FrameSource:
    """Return the source of csi:NUMBER on a Jetson, not opened yet. Raises UsageError."""
    device = deviceurl.parse(url)
    width, height = device.size or (1280, 720)
    number = deviceurl.camera_number(device, url)
    pipeline = CSI.format(number=number, width=width, height=height, fps=device.fps or 30)
    return _grabbed(url, pipeline, camera, pace, options)


def _grabbed(url: str, pipeline: str, camera: str, pace: Pace, options: StreamOptions) -> FrameSource:
    connect: Connect = partial(GstGrabber, url, pipeline, pace)
    return GrabSource(url, connect, camera=camera, pace=pace, options=options)


class GstGrabber:
    """A pipeline that plays. Raises AgentError at construction.

    A live one drops what is not taken in time; one with an end is paced by its own clock (`pace` "realtime").
    """

    def __init__(
        self,
        url: str,
        pipeline: str,
        pace: Pace,
        stats: SourceStats,  # noqa: ARG002 - a Connect
        stopped: Callable[[], bool],
    ) -> None:
        self._url = url
        self._gst, self._video = load()
        self._pipeline = self._launch(pipeline)
        self._bus = self._pipeline.get_bus()
        try:
            self._sink = self._find_sink()
            self._play(pace, stopped)
        except BaseException:
            self.close()
            raise
        self.frame_rate_hz = 0.0

    def grab(self, timeout_s: float) -> Grab | None:
        """Return the next picture, None after `timeout_s`. Raises EOFError at the end, AgentError."""
        sample = self._sink.try_pull_sample(int(timeout_s * 1e9))
        self._raise_fault()
        if sample is not None:
            return self._grab(sample)
        if self._sink.is_eos():
            raise EOFError
        return None

    def close(self) -> None:
        """End the pipeline and release its devices."""
        self._pipeline.set_state(self._gst.State.NULL)

    def _launch(self, description: str) -> Any:
        text = description if re.search(r"\bappsink\b", description) else f"{description} ! {SINK}"
        try:
            return self._gst.parse_launch(text)
        except Exception as error:  # noqa: BLE001 - GLib.Error, which is known at run time alone
            raise _launch_fault(error, self._url) from None

    def _find_sink(self) -> Any:
        elements = self._pipeline.iterate_sinks() if hasattr(self._pipeline, "iterate_sinks") else None
        while elements is not None:
            result, element = elements.next()
            if result != self._gst.IteratorResult.OK:
                break
            if element.get_factory().get_name() == "appsink":
                if element.get_property("caps") is None:
                    element.set_property("caps", self._gst.Caps.from_string(CAPS))
                return element
        raise UsageError(
            "no appsink in the pipeline", seen=redact(self._url), fix="end it with: ! videoconvert ! appsink"
        )

    def _play(self, pace: Pace, stopped: Callable[[], bool]) -> None:
        """Find out whether the pipeline is live (it has no preroll then), set its sink to suit, and play."""
        change = self._gst.StateChangeReturn
        self._sink.set_property("sync", False)
        result = self._pipeline.set_state(self._gst.State.PAUSED)
        while result == change.ASYNC:
            self._raise_fault()
            if stopped():
                raise faults.closed(self._url)
            result = self._pipeline.get_state(STEP_NS)[0]
        if result == change.FAILURE:
            self._fail()
        self.live = result == change.NO_PREROLL
        self._sink.set_property("sync", not self.live and pace == "realtime")
        self._sink.set_property("drop", self.live)
        self._sink.set_property("max-buffers", 1)
        if self._pipeline.set_state(self._gst.State.PLAYING) == change.FAILURE:
            self._fail()

    def _fail(self) -> None:
        self._raise_fault()
        raise ServiceAway(
            "the pipeline does not start", seen=redact(self._url), fix="try it with gst-launch-1.0"
        )

    def _raise_fault(self) -> None:
        """Raise the first error on the bus, which is emptied."""
        while (message := self._bus.pop()) is not None:
            if message.type == self._gst.MessageType.ERROR:
                error, debug = message.parse_error()
                raise _bus_fault(error, debug, message.src.get_factory(), self._url)

    def _grab(self, sample: Any) -> Grab:
        buffer, caps = sample.get_buffer(), sample.get_caps()
        info = self._video.VideoInfo.new_from_caps(caps)
        pixel_format = FORMATS.get(info.finfo.name) if info is not None else None
        if info is None or pixel_format is None:
            seen = info.finfo.name if info is not None else caps.to_string()
            raise BadData("a format we can't read", seen=seen, fix=f"put {CAPS} before the appsink")
        if info.fps_d:
            self.frame_rate_hz = info.fps_n / info.fps_d
        layout = self._video.buffer_get_video_meta(buffer) or info
        mapped, view = buffer.map(self._gst.MapFlags.READ)
        if not mapped:
            raise BadData("a picture in memory we can't read", seen=redact(self._url), fix="add ! nvvidconv")
        try:
            data = np.frombuffer(view.data, np.uint8)
            size = info.width, info.height
            picture = copied(data, size, pixel_format, list(layout.stride), list(layout.offset))
            del data
        finally:
            buffer.unmap(view)
        return self._timed(picture, sample, buffer.pts)

    def _timed(self, picture: Any, sample: Any, pts_ns: int) -> Grab:
        """Place the picture on CLOCK_MONOTONIC by the running time and the clock of the pipeline."""
        if pts_ns == NO_TIME:
            return Grab(picture, time.monotonic())
        clock = self._pipeline.get_clock()
        running_ns = sample.get_segment().to_running_time(self._gst.Format.TIME, pts_ns)
        if clock is None or running_ns == NO_TIME:
            return Grab(picture, pts_ns / 1e9)
        captured_ns = self._pipeline.get_base_time() + running_ns - ahead_ns(clock.get_time)
        return Grab(picture, running_ns / 1e9, captured_ns / 1e9)


def load() -> tuple[Any, Any]:
    """Return the modules Gst and GstVideo, initialised. Raises ServiceAway where they are missing."""
    try:
        gi = importlib.import_module("gi")
        for name in ("Gst", "GstApp", "GstVideo"):
            gi.require_version(name, "1.0")
        gst = importlib.import_module("gi.repository.Gst")
        importlib.import_module("gi.repository.GstApp")  # gives the appsink its methods
        video = importlib.import_module("gi.repository.GstVideo")
    except (ImportError, ValueError) as error:
        raise ServiceAway("GStreamer for Python is missing", seen=error, fix=FIX_BINDINGS) from None
    gst.init(None)
    return gst, video


def _launch_fault(error: Any, url: str) -> AgentError:
    message, code = getattr(error, "message", str(error)), getattr(error, "code", None)
    missing = re.search(r'no element "([^"]+)"', message)
    if code == NO_ELEMENT and missing:
        name = missing[1]
        fix = next((fix for begin, fix in PACKAGES.items() if name.startswith(begin)), FIX_ELEMENT)
        return ServiceAway("GStreamer has no such element", seen=name, fix=fix)
    return UsageError("not a pipeline", seen=f"{redact(url)} ({message})", fix=FIX_TRY)


def _bus_fault(error: Any, debug: str | None, factory: Any, url: str) -> AgentError:
    element = factory.get_name() if factory is not None else "pipeline"
    seen = f"{redact(url)} ({element}: {redact(error.message)})"
    if "not-negotiated" in (debug or ""):
        fix = "put the missing converter in: videoconvert, or nvvidconv for memory:NVMM"
        return BadData("the elements agree on no format", seen=redact(url), fix=fix)
    if "resource" not in error.domain:
        return BadData("the pipeline fails", seen=seen, fix=FIX_TRY)
    if error.code == NOT_FOUND:
        return InputMissing("not found", seen=seen, fix="`edge-agent cameras` lists what is attached")
    if error.code == NOT_AUTHORIZED:
        return NotPermitted("refused", seen=seen, fix=faults.FIX_LOGIN)
    if error.code == BUSY:
        return ServiceAway("in use", seen=seen, fix="end the program that has it")
    return ServiceAway("the pipeline fails", seen=seen, fix=f"check the camera; {FIX_TRY}")
