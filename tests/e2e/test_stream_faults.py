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
from tests.e2e.brokers import wait_for
from tests.e2e.cameras import strip
from tests.e2e.cameras.http_server import HttpServer
from tests.e2e.cameras.rtsp import RtspCamera, free_port
from tests.patience import HANGS_S
from tests.unit.capture.clips import even, write_clip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent.capture import FrameSource
    from agent.messages import Frame

PATIENT = StreamOptions(
    open_timeout_s=HANGS_S, stall_timeout_s=HANGS_S, backoff_first_s=0.1, backoff_max_s=0.5
)
ALERT = replace(PATIENT, stall_timeout_s=1.0)
HASTY = StreamOptions(open_timeout_s=1.0, stall_timeout_s=1.0)


@pytest.fixture(scope="module")
def camera() -> Iterator[RtspCamera]:
    """Return a camera with a key frame every 2 s."""
    with RtspCamera(gop=30) as running:
        yield running


def connect(url: str, options: StreamOptions = PATIENT) -> contextlib.closing[FrameSource]:
    """Return the opened live source, to be closed."""
    return closing(open_source(url, camera="front", pace="realtime", options=options))


def until(frames: Iterator[Frame], wanted: Callable[[Frame], bool]) -> list[Frame]:
    """Return the frames up to the first that is wanted."""
    seen, started_s = [], time.monotonic()
    for frame in frames:
        seen.append(frame)
        if wanted(frame):
            return seen
        assert time.monotonic() - started_s < HANGS_S
    pytest.fail("the frames ended")


def silent_until_noticed(camera: RtspCamera | HttpServer, source: FrameSource) -> None:
    """Have the camera say nothing until the source has told of a stall."""

    def wait() -> None:
        try:
            wait_for(lambda: source.stats.stalls, HANGS_S, "the stall")
        finally:
            camera.silent = False

    camera.silent = True
    threading.Thread(target=wait).start()


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
    """The first frame is a key frame, what came before is counted, each picture is whole, none from the future."""
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
    assert 0 < min(errors_s) < 1.0


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
    with connect(camera.url, ALERT) as source:
        frames = source.frames()
        seen = until(frames, lambda f: f.seq == 5)
        silent_until_noticed(camera, source)
        seen += until(frames, lambda f: source.stats.reconnects > 0 and burnt(f) is not None)
        assert source.stats.stalls >= 1
        assert in_order(seen)


def test_close_ends_a_stalled_source(camera: RtspCamera) -> None:
    """A consumer that waits on a silent camera is freed, long before the stall timeout of an hour."""
    with connect(camera.url, replace(PATIENT, stall_timeout_s=3600.0)) as source:
        frames = source.frames()
        next(frames)
        camera.silent = True
        try:
            threading.Timer(0.5, source.close).start()
            list(frames)
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
    began_s = time.monotonic()
    with HttpServer() as server, connect(server.url("live"), ALERT) as source:
        frames = source.frames()
        assert began_s < until(frames, lambda f: f.seq == 5)[-1].captured_s < time.monotonic()
        silent_until_noticed(server, source)
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
    """Each kind of refusal has its own class."""
    with HttpServer({"text.mp4": b"not a video " * 500}) as server:
        options = HASTY if path == "hang" else PATIENT
        refused(server.url(path).replace("//", "//bob:wrongword@"), expected, options)


def test_a_clip_over_http_that_breaks_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A server that dies in the middle of a clip: what came is played, and the early end is said."""
    clip = write_clip(tmp_path / "a.mkv", even(300, fps=100), size=(320, 240)).read_bytes()
    with HttpServer({"a.mkv": clip}) as server:
        server.cut_at = len(clip) // 2
        with connect(server.url("a.mkv")) as source:
            frames = source.frames()
            next(frames)
            server.files.clear()
            assert 50 < len(list(frames)) < 250
    assert "truncated?" in caplog.text


@pytest.mark.parametrize("scheme", ["rtsp", "http", "rtsps", "https"])
def test_servers_that_are_not_there_or_say_nothing(scheme: str) -> None:
    """Refused, or given up after the open timeout; the password stays hidden."""
    refused(f"{scheme}://bob:wrongword@127.0.0.1:{free_port()}/1", ServiceAway, HASTY)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        started_s = time.monotonic()
        refused(f"{scheme}://bob:wrongword@127.0.0.1:{mute.getsockname()[1]}/1", ServiceAway, HASTY)
        assert time.monotonic() - started_s < 60


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_close_ends_the_opening_of_a_mute_server(scheme: str) -> None:
    """A camera that accepts and says nothing does not hold the end of the program for the open timeout."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"{scheme}://127.0.0.1:{mute.getsockname()[1]}/1"
        source = make_source(url, camera="front", pace="realtime", options=PATIENT)
        threading.Timer(0.3, source.close).start()
        with pytest.raises(ServiceAway, match="closed while opening"):
            source.open()


def test_an_unknown_host_and_an_endless_clip() -> None:
    """A name that does not resolve is a service that is away; an endless stream can't be played fastest."""
    refused("rtsp://bob:wrongword@no-such-host.invalid/1", ServiceAway)
    with HttpServer() as server, pytest.raises(UsageError, match="needs a file"):
        open_source(server.url("live"), camera="front", pace="fastest", options=PATIENT)


def refused(
    url: str, expected: type[AgentError], options: StreamOptions = PATIENT, *, word: str = "wrongword"
) -> None:
    """Check that opening `url` raises exactly `expected`, in one line with a fix and without the password."""
    with pytest.raises(AgentError) as caught:
        open_source(url, camera="front", pace="realtime", options=options)
    assert type(caught.value) is expected, caught.value
    assert caught.value.fix
    assert "\n" not in str(caught.value)
    assert not word or word not in str(caught.value)
