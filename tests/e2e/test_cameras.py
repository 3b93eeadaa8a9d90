"""`edge-agent cameras`, and cameras of this machine: GStreamer's test source, MJPEG over HTTP, V4L2.

V4L2 runs where there is a device; `modprobe vivid` makes one that can be unplugged.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from agent.capture import StreamOptions, make_source, open_source
from agent.errors import AgentError, BadConfig, BadData, InputMissing, ServiceAway, UsageError
from tests.e2e.cameras import http_server, strip
from tests.e2e.cameras.devices import capture_device, let_gi_in
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from agent.messages import Frame

QUICK = StreamOptions(open_timeout_s=HANGS_S, stall_timeout_s=HANGS_S, backoff_first_s=0.1, backoff_max_s=0.5)
UNBIND = Path("/sys/bus/platform/drivers/vivid")


def edge_agent(*args: object) -> subprocess.CompletedProcess[str]:
    """Run the command line, piped."""
    command = [sys.executable, "-m", "agent", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANGS_S, check=False)


def opened(url: str, pace: Any = "realtime") -> Any:
    """Return the opened source, to be closed."""
    return closing(open_source(url, camera="front", pace=pace, options=QUICK))


def until(frames: Iterator[Any], wanted: Callable[[], bool]) -> None:
    """Take frames until `wanted()`."""
    started_s = time.monotonic()
    for _ in frames:
        if wanted():
            return
        assert time.monotonic() - started_s < HANGS_S
    pytest.fail("the frames ended")


@pytest.fixture
def gi(tmp_path: Path) -> Iterator[None]:
    """GStreamer's Python bindings, else skip."""
    with let_gi_in(tmp_path):
        yield


def test_none_found(tmp_path: Path) -> None:
    """A machine without cameras says what to do, in 80 columns; JSON is an empty list."""
    done = edge_agent("cameras", "--root", tmp_path)
    assert done.returncode == 0
    assert "No camera found." in done.stdout
    assert "rpicam-hello" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert json.loads(edge_agent("cameras", "--json", "--root", tmp_path).stdout) == {"cameras": []}


class Asked(http_server.HttpServer):
    """Sends pictures on /live as they come, and once `asking` only one for each time that `ask` is called."""

    def __init__(self) -> None:
        super().__init__()
        self.asking = False
        self._asked = threading.Semaphore(0)

    def ask(self) -> float:
        """Have one picture made and sent; return when that was."""
        now_s = time.monotonic()
        self._asked.release()
        return now_s

    @property
    def silent(self) -> bool:
        return self.asking and not self._asked.acquire(blocking=False)

    @silent.setter
    def silent(self, _: bool) -> None: ...


def burnt_s(frame: Frame) -> float:
    """Return when the picture was made, by its time strip."""
    plane = frame.picture.planes[0]
    luma = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    burnt = strip.read(luma[: frame.picture.height, : frame.picture.width])
    assert burnt is not None
    return burnt[1] / 1e6


def test_http_mjpeg_is_fresh() -> None:
    """A picture is out before the next one comes: each time there is no other."""
    with Asked() as server, opened(server.url("live")) as source:
        server.asking = True
        frames = source.frames()
        for _ in range(10):
            asked_s = server.ask()
            next(frame for frame in frames if burnt_s(frame) >= asked_s)


def test_the_rate_of_http_mjpeg_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg's made-up 25 fps are not told."""
    monkeypatch.setattr(http_server, "JPEG_HZ", 5.0)
    with http_server.HttpServer() as server, opened(server.url("live")) as source:
        list(itertools.islice(source.frames(), 15))
        assert 0 < source.frame_rate_hz < 15


@pytest.mark.parametrize("pixel_format", ["I420", "NV12", "YUY2", "UYVY", "GRAY8", "RGB", "BGR"])
@pytest.mark.parametrize("own_sink", [False, True], ids=["our-sink", "own-sink"])
def test_gstreamer_pictures_are_right(gi: None, pixel_format: str, own_sink: bool) -> None:
    """A white frame of odd size is white at every pixel: no padding comes in, no row is torn.

    Of packed 4:2:2 with an odd width GStreamer leaves half a pair of pixels undefined.
    """
    width = 321 if pixel_format in ("I420", "NV12", "GRAY8") else 322
    source_text = (
        f"gstreamer:videotestsrc pattern=white is-live=true ! "
        f"video/x-raw,format={pixel_format},width={width},height=243,framerate=30/1"
    )
    with opened(source_text + (" ! appsink" if own_sink else "")) as source:
        frame = next(source.frames())
        assert source.live
        assert source.frame_rate_hz == 30
    assert frame.size == (width, 243)
    assert frame.picture.to_ndarray(format="rgb24").min() >= 230  # chroma too is where it belongs


def test_gstreamer_times_are_those_of_capture(gi: None) -> None:
    """Captured times are on CLOCK_MONOTONIC, whole steps apart, and behind a pipeline's delay they tell it."""
    live = "gstreamer:videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=20/1"
    with opened(live + " ! identity sleep-time=40000") as source:
        frames, ages_s = [], []
        for frame in itertools.islice(source.frames(), 20):
            frames.append(frame)
            ages_s.append(time.monotonic() - frame.captured_s)
    assert all(age_s > 0.035 for age_s in ages_s)
    assert min(ages_s) < 60
    steps_s = [b.captured_s - a.captured_s for a, b in itertools.pairwise(frames)]
    assert np.median([abs(step_s / 0.05 - round(step_s / 0.05)) for step_s in steps_s]) < 0.01


def test_a_gstreamer_clip_is_whole(gi: None) -> None:
    """A pipeline with an end gives every frame, its PTS as time with pace fastest."""
    clip = "gstreamer:videotestsrc num-buffers=50 ! video/x-raw,width=64,height=48,framerate=25/1"
    with opened(clip, "fastest") as source:
        assert not source.live
        times_s = [frame.time_s for frame in source.frames()]
    assert times_s == pytest.approx([n / 25 for n in range(50)])


def test_a_gstreamer_pipeline_that_fails_is_started_again(gi: None) -> None:
    """An error on the bus, and the end of a live one, are lost connections."""
    with opened("gstreamer:videotestsrc is-live=true num-buffers=5 ! video/x-raw,framerate=30/1") as source:
        frames = source.frames()
        until(frames, lambda: source.stats.reconnects >= 2)
    with opened("gstreamer:videotestsrc is-live=true ! identity error-after=5") as source:
        until(source.frames(), lambda: source.stats.reconnects >= 2)


@pytest.mark.parametrize(
    ("url", "kind", "line"),
    [
        ("gstreamer:nonesuch", ServiceAway, "no such element: nonesuch; check its name with gst-inspect"),
        ("csi:0", ServiceAway, "nvarguscamerasrc; it comes with JetPack"),
        ("gstreamer:videotestsrc ! !", UsageError, r"not a pipeline: .*syntax error"),
        ("gstreamer:videotestsrc ! audioconvert", UsageError, "could not link"),
        ("gstreamer:filesrc location=/nonesuch ! decodebin", InputMissing, "not found: .*filesrc"),
        ("gstreamer:v4l2src device=/dev/nonesuch", InputMissing, "`edge-agent cameras` lists"),
        ("gstreamer:videotestsrc ! video/x-raw,format=RGBA ! appsink", BadData, "agree on no format"),
    ],
)
def test_gstreamer_faults(gi: None, url: str, kind: type[AgentError], line: str) -> None:
    """One line: what, the value, what to install or do."""
    with pytest.raises(kind, match=line):
        open_source(url, camera="front", pace="realtime", options=QUICK)


def test_gstreamer_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyGObject the fix names the packages and the virtual environment's option."""
    monkeypatch.setitem(sys.modules, "gi", None)
    with pytest.raises(ServiceAway, match=r"apt install python3-gi.*--system-site-packages"):
        make_source("gstreamer:videotestsrc", camera="front", pace="realtime").open()


def test_a_device_is_listed_with_a_line_that_works() -> None:
    """What `cameras` proposes opens, with the size it says; people and programs are told the same."""
    device = capture_device()
    (listed,) = (
        c for c in json.loads(edge_agent("cameras", "--json").stdout)["cameras"] if c["device"] == device
    )
    assert f'source = "{listed["source"]}"' in edge_agent("cameras").stdout
    with opened(listed["source"]) as source:
        frame = next(source.frames())
    assert f"size={frame.size[0]}x{frame.size[1]}" in listed["source"]


def test_v4l2_formats_and_times() -> None:
    """Each raw format the device offers gives pictures, stamped by the kernel."""
    device = capture_device()
    for name in ("yuyv422", "nv12", "yuv420p", "gray", "rgb24"):
        try:
            source = open_source(
                f"v4l2:{device}?size=640x360&fps=30&format={name}",
                camera="front",
                pace="realtime",
                options=QUICK,
            )
        except BadConfig:
            continue
        with closing(source):
            frames = list(itertools.islice(source.frames(), 5))
        assert {(f.size, f.picture.format.name) for f in frames} == {((640, 360), name)}
        assert all(0 <= time.monotonic() - f.captured_s < 60 for f in frames)
        assert frames[-1].picture.to_ndarray(format="gray").std() > 5


def test_two_programs_want_one_camera() -> None:
    """The second is told who has it, in one line."""
    url = f"v4l2:{capture_device()}?size=640x360"
    with opened(url) as first:
        frames = first.frames()
        next(frames)
        with pytest.raises(ServiceAway, match=r"in use: .*; see who has it: fuser -v"):
            open_source(url, camera="second", pace="realtime", options=QUICK)
        next(frames)


def test_unplugged_and_plugged_in_again(caplog: pytest.LogCaptureFixture) -> None:
    """The camera is lost, looked for, and found again under its name; frames are numbered on."""
    device = capture_device()
    if os.geteuid() or not (UNBIND / "vivid.0").exists():
        pytest.skip("needs root and the driver vivid")
    with caplog.at_level(logging.INFO), opened(f"v4l2:{device}?size=320x180&fps=30") as source:
        frames = source.frames()
        numbers = [next(frames).seq for _ in range(3)]
        (UNBIND / "unbind").write_text("vivid.0")
        until_lost_s = time.monotonic() + HANGS_S
        while "lost" not in caplog.text and time.monotonic() < until_lost_s:
            time.sleep(0.05)
        assert "the camera is unplugged" in caplog.text
        while "still away" not in caplog.text and time.monotonic() < until_lost_s:
            time.sleep(0.05)
        (UNBIND / "bind").write_text("vivid.0")
        for frame in frames:
            numbers.append(frame.seq)
            if source.stats.reconnects:
                break
        numbers.append(next(frames).seq)
    assert numbers == list(range(len(numbers)))
    assert "still away: no such camera" in caplog.text
