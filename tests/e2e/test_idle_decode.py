"""Idle decode over real streams: what is left out, and that nothing of an onset is."""

from __future__ import annotations

import itertools
import time
from contextlib import closing
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest

from agent.capture import StreamOptions
from agent.capture.packets import Arrival, Kept
from agent.capture.stream import StreamSource
from tests.e2e.cameras import strip
from tests.e2e.cameras.rtsp import RtspCamera
from tests.patience import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from agent.messages import Frame

FPS, GOP, SIZE = 10, 10, (192, 144)
QUIET, MOVING = (80, 160), range(80, 120)


def scene(number: int, moving: Callable[[int], bool]) -> NDArray[np.uint8]:
    """Return a yuv420p picture: grain on grey, with a bright box that crosses while `moving`."""
    width, height = SIZE
    picture = np.full((height * 3 // 2, width), 128, np.uint8)
    picture[:height] = 100 + np.random.default_rng(number).normal(0, 2, (height, width))
    if moving(number):
        left = 8 * number % (width - 48)
        picture[48:112, left : left + 48] = 220
    return picture


def write(
    path: Path,
    count: int,
    moving: Callable[[int], bool],
    *,
    codec: str = "libx264",
    gop: int = GOP,
    params: str = "bframes=0:scenecut=0",
) -> Path:
    """Encode `count` pictures of the scene."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=FPS)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = gop
        if codec != "mjpeg":
            stream.options = {"preset": "ultrafast", f"{codec[3:]}-params": f"{params}:log-level=none"}
        for number in range(count):
            picture = av.VideoFrame.from_ndarray(scene(number, moving), format="yuv420p")
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            out.mux(stream.encode(picture.reformat(format=stream.pix_fmt)))
        out.mux(stream.encode(None))
    return path


def play(
    path: Path, decode: Any = "keyframes_when_idle", **options: Any
) -> tuple[StreamSource, list[tuple[int, float, float]]]:
    """Return the source, and of each frame its number, PTS and mean brightness."""
    source = StreamSource(
        str(path), camera="front", pace="fastest", options=StreamOptions(decode=decode, **options)
    )
    source.open()
    return source, [(f.seq, f.pts_s, brightness(f)) for f in source.frames()]


def brightness(frame: Frame) -> float:
    """Return the mean luma."""
    plane = frame.picture.planes[0]
    luma = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return float(luma[: frame.picture.height, : frame.picture.width].mean())


CODINGS = {
    "plain": ("a.mp4", {}),
    "b-frames": ("a.mp4", {"params": "bframes=2:b-adapt=0:scenecut=0"}),
    "b-frames in ts": ("a.ts", {"params": "bframes=2:b-adapt=0:scenecut=0"}),
    "open GOP": ("a.mkv", {"params": "bframes=2:b-adapt=0:scenecut=0:open-gop=1"}),
    "all intra": ("a.mkv", {"gop": 1}),
    "mjpeg": ("a.mkv", {"codec": "mjpeg"}),
    "hevc, open GOP": ("a.mkv", {"codec": "libx265", "params": "bframes=3:open-gop=1:scenecut=0"}),
}


@pytest.mark.parametrize("name", CODINGS)
def test_an_onset_between_key_frames_is_given_whole(tmp_path: Path, name: str) -> None:
    """Each frame that shows the box is given, whole, with the number and PTS that full decoding gives it.

    Numbers rise without a repetition, and what is missing was counted.
    """
    file, coding = CODINGS[name]
    if coding.get("codec") == "libx265" and "libx265" not in av.codecs_available:
        pytest.skip("this FFmpeg has no HEVC encoder")
    moving = {n for start in (83, 145) for n in range(start, start + 15)}
    clip = write(tmp_path / file, 200, moving.__contains__, **coding)
    _, full = play(clip, "all")
    source, frames = play(clip)
    assert [seq for seq, *_ in full] == list(range(200))
    given = {seq: (pts_s, light) for seq, pts_s, light in frames}
    assert len(given) == len(frames) < 160
    assert moving <= set(given)
    assert all(given[seq] == (full[seq][1], pytest.approx(full[seq][2], abs=0.7)) for seq in given)
    assert all(a[0] < b[0] for a, b in itertools.pairwise(frames))
    stats = source.stats
    assert stats.packets == 200 == stats.frames + stats.packets_not_decoded
    assert stats.wakes_motion + stats.wakes_sizes == 2
    assert stats.gaps == stats.pts_backwards == stats.undecodable_packets == stats.disordered_frames == 0
    assert source.frame_rate_hz == FPS
    assert stats.idle_s > 5
    assert 0 < stats.miss_window_s <= 1.1


def test_a_still_clip_costs_its_key_frames(tmp_path: Path) -> None:
    """Without motion one frame a GOP is given after the start, and the end is decoded in case."""
    clip = write(tmp_path / "a.mp4", 300, lambda _: False)
    source, frames = play(clip)
    numbers = [seq for seq, *_ in frames if 30 < seq < 290]
    assert numbers == list(range(40, 290, GOP))
    assert [seq for seq, *_ in frames][-GOP:] == list(range(290, 300))
    assert source.stats.wakes_motion == source.stats.wakes_sizes == source.stats.wakes_busy == 0


def test_a_busy_consumer_gets_every_frame(tmp_path: Path) -> None:
    """While something stands still in view the consumer says so, and is given all; from the last key frame on."""
    clip = write(tmp_path / "a.mp4", 300, lambda _: False)
    asked = itertools.count()
    source, frames = play(clip, busy=lambda: next(asked) > 100)
    numbers = [seq for seq, *_ in frames]
    first = next(a for a, b in itertools.pairwise(numbers) if a > 50 and b == a + 1)
    assert numbers[numbers.index(first) :] == list(range(first, 300))
    assert first % GOP == 0
    assert source.stats.wakes_busy == 1


def test_intra_refresh_is_never_idle(tmp_path: Path) -> None:
    """A stream that refreshes by columns has no picture that stands alone: all of it is given."""
    clip = write(tmp_path / "a.mkv", 200, lambda _: False, params="bframes=0:intra-refresh=1")
    source, frames = play(clip)
    assert [seq for seq, *_ in frames] == list(range(200))
    assert source.stats.packets_not_decoded == source.stats.miss_window_s == 0


def test_a_change_of_resolution_wakes(tmp_path: Path) -> None:
    """Two recordings glued together: what follows is given with its own size, and idle begins again."""
    parts = []
    for n, (width, height) in enumerate(((192, 144), (256, 192))):
        part = tmp_path / f"{n}.ts"
        with av.open(str(part), "w") as out:
            stream = out.add_stream("libx264", rate=FPS)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.gop_size = GOP
            stream.options = {"x264-params": "bframes=0:scenecut=0:log-level=none"}
            for number in range(100):
                picture = av.VideoFrame.from_ndarray(scene(number, lambda _: False), format="yuv420p")
                picture = picture.reformat(width, height)
                picture.pts, picture.time_base = number + 100 * n, Fraction(1, FPS)
                out.mux(stream.encode(picture))
            out.mux(stream.encode(None))
        parts.append(part)
    glued = tmp_path / "glued.ts"
    glued.write_bytes(b"".join(part.read_bytes() for part in parts))
    source, frames = play(glued)
    assert source.stats.resolution_changes == 1
    assert 100 in [seq for seq, *_ in frames]
    assert source.stats.packets_not_decoded > 100


def test_damage_in_idle_does_not_end_the_clip(tmp_path: Path) -> None:
    """Torn key frames are stepped over; numbers go on rising."""
    clip = write(tmp_path / "a.mkv", 300, lambda _: False)
    data = bytearray(clip.read_bytes())
    start = len(data) // 2
    data[start : start + len(data) // 10] = np.random.default_rng(0).bytes(len(data) // 10)
    clip.write_bytes(data)
    source, frames = play(clip)
    numbers = [seq for seq, *_ in frames]
    assert all(a < b for a, b in itertools.pairwise(numbers))
    assert numbers[-1] == 299
    assert source.stats.packets_not_decoded > 100


def test_at_realtime_pace_what_wakes_is_on_time(tmp_path: Path) -> None:
    """In idle a clip is read no faster than it plays, so the consumer's word comes in time."""
    clip = write(tmp_path / "a.mp4", 80, lambda _: False)
    word: list[float] = []
    source = StreamSource(
        str(clip),
        camera="front",
        pace="realtime",
        options=StreamOptions(
            decode="keyframes_when_idle", busy=lambda: bool(word) and time.monotonic() > word[0]
        ),
    )
    source.open()
    numbers = []
    for frame in source.frames():
        numbers.append(frame.seq)
        if frame.seq == 50:
            word.append(frame.captured_s + 0.35)  # the model took its time
    assert numbers[numbers.index(50) :] == list(range(50, 80))
    assert 40 in numbers
    assert 45 not in numbers


def test_a_camera_that_rests_and_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over RTSP: key frames alone while nothing moves, all of the GOP at once when something does."""
    monkeypatch.setattr(strip, "burn", lambda *_, **__: None)  # it changes with every frame
    moving = False

    def camera_scene(width: int, height: int, number: int) -> NDArray[np.uint8]:
        luma = np.full((height, width), 100, np.uint8)
        if moving:
            luma[100:180, 8 * number % 200 : 8 * number % 200 + 80] = 220
        return luma

    with RtspCamera(gop=15, fps=15, scene=camera_scene) as camera:
        source = StreamSource(
            camera.url,
            camera="front",
            pace="realtime",
            options=StreamOptions(stall_timeout_s=HANGS_S, decode="keyframes_when_idle"),
        )
        source.open()
        with closing(source):
            frames, seen, began_s = source.frames(), [], time.monotonic()
            for frame in frames:
                seen.append(frame)
                assert time.monotonic() - began_s < HANGS_S
                if source.stats.packets_not_decoded > 40:
                    break
            assert all(b.seq - a.seq == 15 for a, b in itertools.pairwise(seen[-3:]))
            moving = True
            woken = list(itertools.islice(frames, 30))
            assert source.stats.wakes_motion + source.stats.wakes_sizes == 1
    bright = [brightness(f) > 105 for f in woken]
    first = bright.index(True)
    assert [f.seq for f in woken[first:]] == list(range(woken[first].seq, woken[first].seq + 30 - first))
    assert all(a.time_s <= b.time_s for a, b in itertools.pairwise(woken))
    assert source.stats.late_packets == 0


def packet(size_bytes: int, *, key: bool) -> Arrival:
    """Return an arrival of that many bytes."""
    made: Any = av.Packet(size_bytes)
    made.is_keyframe = key
    session: Any = None
    return Arrival(made, session, 0.0)


def test_what_is_kept_is_bounded_and_goes_by_whole_gops() -> None:
    """The oldest GOP goes first; one that is too long goes whole; without its key frame nothing is kept."""
    kept = Kept(most=5, most_bytes=1000)
    first, second = [packet(10, key=n == 0) for n in range(3)], [packet(10, key=n == 0) for n in range(4)]
    gone = [kept.add(item) for item in first + second]
    assert gone[:5] == [[]] * 5
    assert gone[5] == first
    assert kept.take() == second
    assert kept.add(first[1]) == [first[1]]
    assert kept.add(first[0]) == []
    large = packet(2000, key=False)
    assert kept.add(large) == [first[0], large]
    assert kept.take() == []
