"""Cameras that fail, over real RTSP and HTTP on loopback."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from agent.capture import StreamOptions, make_source, open_source
from agent.errors import AgentError, BadData, InputMissing, NotPermitted, ServiceAway, UsageError
from tests.e2e.cameras import strip
from tests.e2e.cameras.http_server import HttpServer
from tests.e2e.cameras.rtsp import RtspCamera, free_port
from tests.unit.capture.clips import even, write_clip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent.capture import FrameSource
    from agent.messages import Frame

QUICK = StreamOptions(open_timeout_s=10.0, stall_timeout_s=1.0, backoff_first_s=0.1, backoff_max_s=0.5)
HASTY = StreamOptions(open_timeout_s=1.0, stall_timeout_s=1.0)
LIMIT_S = 25.0


@pytest.fixture(scope="module")
def camera() -> Iterator[RtspCamera]:
    """Return a camera with a key frame every 2 s."""
    with RtspCamera(gop=30) as running:
        yield running


def connect(url: str, options: StreamOptions = QUICK) -> contextlib.closing[FrameSource]:
    """Return the opened live source, to be closed."""
    return closing(open_source(url, camera="front", pace="realtime", options=options))


def until(frames: Iterator[Frame], wanted: Callable[[Frame], bool]) -> list[Frame]:
    """Return the frames up to the first that is wanted; fail after LIMIT_S."""
    seen, started_s = [], time.monotonic()
    for frame in frames:
        seen.append(frame)
        if wanted(frame):
            return seen
        assert time.monotonic() - started_s < LIMIT_S
    pytest.fail("the frames ended")


def burnt(frame: Frame) -> tuple[int, int] | None:
    """Return counter and capture time (us) of the time strip."""
    plane = frame.picture.planes[0]
    luma = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return strip.read(luma[: frame.picture.height, : frame.picture.width])


def in_order(frames: list[Frame]) -> bool:
    """Return whether numbers have no holes and times never decrease."""
    pairs = list(itertools.pairwise(frames))
    return all(b.seq == a.seq + 1 and b.time_s >= a.time_s for a, b in pairs)


def test_joining_a_stream_mid_gop_shows_no_grey(camera: RtspCamera) -> None:
    """The first frame is a key frame, what came before is counted, each picture is whole, its age true."""
    with connect(camera.url) as first:
        running = first.frames()
        until(running, lambda f: f.seq == 5)  # who comes now, comes mid-GOP
        with connect(camera.url) as second:
            frames = list(itertools.islice(second.frames(), 40))
            assert second.stats.waited_for_key_frame > 0
    strips = [burnt(f) for f in frames]
    assert frames[0].picture.key_frame
    assert None not in strips
    errors_s = [f.captured_s - s[1] / 1e6 for f, s in zip(frames, strips, strict=True) if s]
    assert min(errors_s) > 0
    assert errors_s[-1] < 0.5


def test_a_camera_that_reboots_is_found_again(caplog: pytest.LogCaptureFixture) -> None:
    """Killed and started again: numbers and times go on, the loss is counted and said, redacted."""
    with RtspCamera(login="bob secret") as camera, caplog.at_level("INFO", "agent.capture"):
        with connect(camera.url.replace("//", "//bob:secret@")) as source:
            frames = source.frames()
            seen = until(frames, lambda f: f.seq == 5)
            camera.kill()
            threading.Timer(0.5, camera.start).start()
            seen += until(frames, lambda f: source.stats.reconnects > 0 and f.seq > 20)
            assert source.stats.reconnects == 1
        assert in_order(seen)
    assert "lost" in caplog.text
    assert "back" in caplog.text
    assert "secret" not in caplog.text


def test_a_camera_that_goes_silent_is_connected_anew(camera: RtspCamera) -> None:
    """Connections stay and nothing comes: noticed by the stall timeout; frames go on when it speaks."""
    with connect(camera.url) as source:
        frames = source.frames()
        seen = until(frames, lambda f: f.seq == 5)
        camera.silent = True
        threading.Timer(1.6, setattr, (camera, "silent", False)).start()
        seen += until(frames, lambda f: source.stats.reconnects > 0 and burnt(f) is not None)
        assert source.stats.stalls >= 1
        assert in_order(seen)


def test_close_ends_a_stalled_source_soon(camera: RtspCamera) -> None:
    """A consumer that waits on a silent camera is freed within 2 s, long before the stall timeout."""
    with connect(camera.url, StreamOptions(stall_timeout_s=5.0)) as source:
        frames = source.frames()
        next(frames)
        camera.silent = True
        try:
            threading.Timer(0.5, source.close).start()
            started_s = time.monotonic()
            list(frames)
            assert time.monotonic() - started_s < 2.5
        finally:
            camera.silent = False


def test_a_camera_that_changes_its_resolution(camera: RtspCamera) -> None:
    """Frames of the new size come through the same connection, and the change is counted."""
    with connect(camera.url) as source:
        frames = source.frames()
        until(frames, lambda f: f.seq == 3)
        camera.size = (160, 128)
        changed = until(frames, lambda f: f.size == (160, 128))
        camera.size = (320, 240)
        assert burnt(changed[-1]) is not None or len(changed) > 1
        assert source.stats.resolution_changes == 1


def test_http_mjpeg_stalls_and_comes_back() -> None:
    """A stream without timestamps is live too: its frames are as old as their arrival."""
    with HttpServer() as server, connect(server.url("live")) as source:
        frames = source.frames()
        assert time.monotonic() - until(frames, lambda f: f.seq == 5)[-1].captured_s < 0.5
        server.silent = True
        threading.Timer(1.3, setattr, (server, "silent", False)).start()
        until(frames, lambda _: source.stats.reconnects > 0)
        assert source.stats.stalls >= 1
        assert source.live


def test_a_wrong_login_and_a_wrong_path(camera: RtspCamera) -> None:
    """401 over RTSP is a refused login, 404 a missing path; neither shows the password."""
    with RtspCamera(login="bob secret") as locked:
        refused(locked.url, NotPermitted)
        refused(locked.url.replace("//", "//bob:wrongword@"), NotPermitted)
    refused(camera.url.replace("/cam", "/wrongword"), InputMissing, word="")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("status/401", NotPermitted),
        ("status/403", NotPermitted),
        ("status/404", InputMissing),
        ("status/500", ServiceAway),
        ("hang", ServiceAway),
        ("text.mp4", BadData),
    ],
)
def test_http_answers_that_are_no_video(path: str, expected: type[AgentError]) -> None:
    """Each kind of refusal has its own class, within the time limit."""
    with HttpServer({"text.mp4": b"not a video " * 500}) as server:
        refused(server.url(path).replace("//", "//bob:wrongword@"), expected, HASTY)


def test_a_clip_over_http_that_breaks_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A server that dies in the middle of a clip: what came is played, and the early end is said."""
    clip = write_clip(tmp_path / "a.mkv", even(300, fps=100), size=(320, 240)).read_bytes()
    with HttpServer({"a.mkv": clip}) as server:
        server.cut_at = len(clip) // 2
        patient = replace(HASTY, open_timeout_s=20.0)  # FFmpeg may meet the end while it opens, and retry
        with connect(server.url("a.mkv"), patient) as source:
            frames = source.frames()
            next(frames)
            server.files.clear()
            assert 50 < len(list(frames)) < 250
    assert "truncated?" in caplog.text


@pytest.mark.parametrize("scheme", ["rtsp", "http", "rtsps", "https"])
def test_servers_that_are_not_there_or_say_nothing(scheme: str) -> None:
    """Refused at once, or given up after the open timeout; the password stays hidden."""
    refused(f"{scheme}://bob:wrongword@127.0.0.1:{free_port()}/1", ServiceAway, HASTY)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        started_s = time.monotonic()
        refused(f"{scheme}://bob:wrongword@127.0.0.1:{mute.getsockname()[1]}/1", ServiceAway, HASTY)
        assert time.monotonic() - started_s < HASTY.open_timeout_s + 1.5


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_close_ends_the_opening_of_a_mute_server(scheme: str) -> None:
    """A camera that accepts and says nothing does not hold the end of the program for the open timeout."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"{scheme}://127.0.0.1:{mute.getsockname()[1]}/1"
        source = make_source(url, camera="front", pace="realtime", options=QUICK)
        started_s = time.monotonic()
        threading.Timer(0.3, source.close).start()
        with pytest.raises(ServiceAway, match="closed while opening"):
            source.open()
        assert time.monotonic() - started_s < 1.3


def test_an_unknown_host_and_an_endless_clip() -> None:
    """A name that does not resolve is a service that is away; an endless stream can't be played fastest."""
    refused("rtsp://bob:wrongword@no-such-host.invalid/1", ServiceAway)
    with HttpServer() as server, pytest.raises(UsageError, match="needs a file"):
        open_source(server.url("live"), camera="front", pace="fastest", options=QUICK)


def refused(
    url: str, expected: type[AgentError], options: StreamOptions = QUICK, *, word: str = "wrongword"
) -> None:
    """Check that opening `url` raises exactly `expected`, in one line with a fix and without the password."""
    with pytest.raises(AgentError) as caught:
        open_source(url, camera="front", pace="realtime", options=options)
    assert type(caught.value) is expected, caught.value
    assert caught.value.fix
    assert "\n" not in str(caught.value)
    assert not word or word not in str(caught.value)
