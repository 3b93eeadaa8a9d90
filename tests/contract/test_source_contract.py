"""What every FrameSource keeps, whatever it reads: one suite over every source that runs here."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import av
import pytest

from agent.capture import StreamOptions, open_source
from tests.e2e.cameras.devices import capture_device, let_gi_in
from tests.e2e.cameras.http_server import HttpServer
from tests.e2e.cameras.rtsp import RtspCamera
from tests.patience import HANGS_S
from tests.unit.capture.clips import even, write_clip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.capture import FrameSource
    from agent.messages import Frame

OPTIONS = StreamOptions(open_timeout_s=HANGS_S, stall_timeout_s=HANGS_S)
SOURCES = ("file", "http-clip", "http-mjpeg", "rtsp", "gstreamer-live", "gstreamer-clip", "v4l2")
GSTREAMER = "gstreamer:videotestsrc {} ! video/x-raw,format=I420,width=322,height=242,framerate=25/1"
TAKEN, LONG = 12, 3000
"""So many frames are taken; so many a clip has: two minutes of them."""


@pytest.fixture(scope="module", params=SOURCES)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return a URL of each kind, its server running."""
    clip = write_clip(tmp_path_factory.mktemp("clips") / "a.mp4", even(LONG, fps=25), fps=25, bframes=2)
    if request.param == "file":
        yield str(clip)
    elif request.param == "rtsp":
        with RtspCamera() as camera:
            yield camera.url
    elif request.param.startswith("gstreamer"):
        with let_gi_in(tmp_path_factory.mktemp("gi")):
            yield GSTREAMER.format(
                f"num-buffers={LONG}" if request.param.endswith("clip") else "is-live=true"
            )
    elif request.param == "v4l2":
        yield f"v4l2:{capture_device()}?size=320x180&fps=30"
    else:
        with HttpServer({"a.mp4": clip.read_bytes()}) as server:
            yield server.url("live" if request.param == "http-mjpeg" else "a.mp4")


@pytest.fixture
def source(url: str) -> Iterator[FrameSource]:
    """Return the opened source, closed afterwards."""
    with closing(open_source(url, camera="front", pace="realtime", options=OPTIONS)) as opened:
        yield opened


def test_frames_are_numbered_and_in_time(source: FrameSource) -> None:
    """Numbers from 0 without holes, times that never decrease, captured before now, pictures of a size."""
    frames = []
    for frame in itertools.islice(source.frames(), TAKEN):
        assert frame.captured_s <= time.monotonic()
        frames.append(frame)
    assert [f.seq for f in frames] == list(range(TAKEN))
    assert all(a.time_s <= b.time_s for a, b in itertools.pairwise(frames))
    assert all(a.captured_s <= b.captured_s for a, b in itertools.pairwise(frames))
    assert all(isinstance(f.picture, av.VideoFrame) and min(f.size) > 0 for f in frames)
    assert {f.camera for f in frames} == {"front"}
    assert source.stats.frames >= TAKEN
    assert source.stats.packets >= TAKEN


def test_close_from_another_thread_ends_frames_soon(source: FrameSource) -> None:
    """The consumer is freed long before the end, without an error, and closing twice is fine."""
    frames = source.frames()
    next(frames)
    rest: list[Frame] = []
    consumer = threading.Thread(target=rest.extend, args=(frames,), daemon=True)
    consumer.start()
    source.close()
    source.close()
    consumer.join(HANGS_S)
    assert not consumer.is_alive()
    assert len(rest) < LONG / 2


def test_a_closed_source_gives_nothing(source: FrameSource) -> None:
    """Closed before the first frame: there is none, and no error."""
    source.close()
    assert list(source.frames()) == []


def test_a_source_tells_its_kind(source: FrameSource) -> None:
    """Live sources have no frame count; a rate is known at the latest after some frames."""
    list(itertools.islice(source.frames(), TAKEN))
    assert not (source.live and source.frame_count)
    assert 5 < source.frame_rate_hz < 100


def test_no_thread_stays_behind(source: FrameSource) -> None:
    """A consumer that leaves half-way takes the reader's thread with it."""
    list(itertools.islice(source.frames(), 2))
    source.close()
    for thread in threading.enumerate():
        if thread.name == "read front":
            thread.join(HANGS_S)
            assert not thread.is_alive()
