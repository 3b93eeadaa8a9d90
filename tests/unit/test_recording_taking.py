"""Clips are taken as the camera sent them, from a key frame on."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from agent.capture import SourceStats, StreamOptions
from agent.errors import InputMissing, IOFault, ServiceAway
from agent.messages import Frame
from agent.recording.plan import CLIP_S
from agent.recording.shelf import Shelf
from agent.recording.taking import Taker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 128, 96
FPS = 5
UTC_S = 1_700_000_000.0


def picture(number: int, level: int) -> av.VideoFrame:
    """Return a scene of that brightness in which a box moves."""
    width, height = SIZE
    luma = (np.arange(width) % 32 + np.arange(height)[:, None] % 24 + level - 28).clip(16, 235)
    luma[30:60, 2 * number % 90 : 2 * number % 90 + 20] = min(235, level + 70)
    full = np.vstack([luma, np.full((height // 2, width), 128)]).astype(np.uint8)
    return av.VideoFrame.from_ndarray(full, format="yuv420p")


def write(path: Path, levels: list[int], *, bframes: int = 0) -> Path:
    """Encode a minute for each level, a key frame every 2 s."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        params = f"threads=1:keyint={2 * FPS}:scenecut=0:bframes={bframes}"
        stream.codec_context.options = {"preset": "ultrafast", "x264-params": params}
        for n, level in enumerate(level for level in levels for _ in range(60 * FPS)):
            frame = picture(n, level)
            frame.pts = n
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def taker(url: str, folder: Path, *, for_s: float = 1800.0) -> Taker:
    """Return one whose wall clock goes on by a minute at each look."""
    clock = itertools.count()
    return Taker(
        "cam",
        url,
        Shelf(folder, 50_000_000),
        for_s=for_s,
        options=StreamOptions(),
        stop=threading.Event(),
        patient=False,
        utc=lambda: UTC_S + 60 * next(clock),
    )


@pytest.mark.parametrize("bframes", [0, 2])
def test_packets_are_kept_as_they_were_sent(tmp_path, bframes):
    """Every clip begins with a key frame, is CLIP_S long, plays, and has the very bytes of the source."""
    source = write(tmp_path / "in.mp4", [150, 60, 25], bframes=bframes)
    with av.open(str(source)) as container:
        sent = {bytes(packet) for packet in container.demux(video=0) if packet.size}
    one = taker(str(source), tmp_path / "out")
    one.run()
    clips = one.shelf.clips()
    assert [clip.light for clip in clips if clip.why in ("first", "light")] == ["bright", "dim", "dark"]
    assert one.taken == len(clips) >= 6
    for clip in clips[:-1]:  # the last ends with the source
        with av.open(str(tmp_path / "out" / clip.name)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        assert packets[0].is_keyframe
        assert {bytes(packet) for packet in packets} <= sent
        assert CLIP_S * FPS - 2 <= len(packets) <= CLIP_S * FPS + 2
        with av.open(str(tmp_path / "out" / clip.name)) as container:
            assert len(list(container.decode(video=0))) == len(packets)


def test_a_black_picture_begins_no_clip(tmp_path):
    """Nor one of a single colour."""
    source = tmp_path / "black.mp4"
    with av.open(str(source), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for n in range(50):
            frame = av.VideoFrame.from_ndarray(np.full((144, 128), 20, np.uint8), format="yuv420p")
            frame.pts = n
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    one = taker(str(source), tmp_path / "out")
    one.run()
    assert one.taken == 0


def test_a_source_that_is_not_there_is_an_error(tmp_path):
    """Of a single source; one of a configuration is waited for."""
    with pytest.raises(InputMissing, match="no such file"):
        taker(str(tmp_path / "none.mp4"), tmp_path / "out").run()


class Pictures:
    """A camera that gives whole pictures, as V4L2 and Picamera2 do; ends by itself."""

    live, frame_rate_hz, frame_count, released = True, float(FPS), 0, True

    def __init__(self, count: int, *, lost: bool = False) -> None:
        self.stats, self._count, self._lost = SourceStats(), count, lost

    def open(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def frames(self) -> Iterator[Frame]:
        """Yield them at FPS of their own clock."""
        for n in range(self._count):
            at_s = 100 + n / FPS
            yield Frame("cam", n, n / FPS, at_s, at_s, picture(n, 150))
        if self._lost:
            raise ServiceAway("the camera was pulled out")


def test_uncompressed_pictures_become_motion_jpeg(tmp_path, monkeypatch):
    """Five a second, nearly as they were; the last clip is kept although the camera ended within it."""
    monkeypatch.setattr("agent.recording.taking.make_source", lambda *_, **__: Pictures(45 * FPS))
    one = taker("v4l2:/dev/video0", tmp_path / "out", for_s=100.0)
    one.run()
    clips = one.shelf.clips()
    assert len(clips) == 5
    with av.open(str(tmp_path / "out" / clips[0].name)) as container:
        assert container.streams.video[0].codec_context.name == "mjpeg"
        frames = list(container.decode(video=0))
    assert len(frames) == pytest.approx(CLIP_S * FPS, abs=2)
    assert frames[-1].time - frames[0].time == pytest.approx(CLIP_S, abs=0.5)
    before = picture(0, 150).to_ndarray(format="gray").astype(int)
    assert np.abs(frames[0].to_ndarray(format="gray").astype(int) - before).mean() < 2


def test_what_was_taken_of_a_camera_that_is_lost_is_kept(tmp_path, monkeypatch):
    """The clip ends early, the error goes on."""
    monkeypatch.setattr("agent.recording.taking.make_source", lambda *_, **__: Pictures(9 * FPS, lost=True))
    one = taker("v4l2:/dev/video0", tmp_path / "out")
    with pytest.raises(ServiceAway, match="pulled out"):
        one.run()
    (clip,) = one.shelf.clips()
    with av.open(str(tmp_path / "out" / clip.name)) as container:
        assert len(list(container.decode(video=0))) == pytest.approx(9 * FPS, abs=2)


def test_a_picture_clip_that_can_not_be_kept_is_tried_once(tmp_path, monkeypatch):
    """A full disk is told as that, not as what a second try does to a finished clip."""
    monkeypatch.setattr("agent.recording.taking.make_source", lambda *_, **__: Pictures(45 * FPS))
    one = taker("v4l2:/dev/video0", tmp_path / "out")
    tries = []

    def full(*_: object) -> None:
        tries.append(1)
        raise IOFault("the disk is full")

    monkeypatch.setattr(one.shelf, "put", full)
    with pytest.raises(IOFault, match="the disk is full"):
        one.run()
    assert tries == [1]
