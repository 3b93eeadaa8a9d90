"""Clips through StreamSource: sound ones, odd ones and broken ones."""

from __future__ import annotations

import itertools
import logging
import os
import random
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from agent.capture import StreamOptions, make_source, open_source
from agent.capture.packets import Arrival
from agent.capture.stream import StreamSource
from agent.errors import AgentError, BadData, InputMissing, NotPermitted, ServiceAway, UsageError
from agent.heartbeat import Beat
from tests.patience import HANGS_S
from tests.unit.capture.clips import even, write_audio, write_clip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.capture import Pace
    from agent.messages import Frame


def play(path: Path | str, *, pace: Pace = "fastest", **options: Any) -> tuple[StreamSource, list[Frame]]:
    """Return the source and all frames of a clip."""
    source = open_source(str(path), camera="front", pace=pace, **options)
    assert isinstance(source, StreamSource)
    return source, list(source.frames())


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_b_frames_come_in_order_of_presentation(tmp_path: Path, name: str) -> None:
    """Every frame comes out, the ones that the decoder holds back too, numbered and timed in order."""
    clip = write_clip(tmp_path / name, even(20), bframes=2)
    source, frames = play(clip)
    start_s = frames[0].pts_s
    assert [f.seq for f in frames] == list(range(20))
    assert [f.pts_s - start_s for f in frames] == pytest.approx(even(20), abs=0.002)
    assert [f.time_s for f in frames] == [f.pts_s for f in frames]
    assert source.stats.pts_missing == source.stats.gaps == source.stats.undecodable_packets == 0


def test_frames_are_those_of_the_decoder(tmp_path: Path) -> None:
    """The picture is the decoder's own planar frame, unconverted, and differs from the next."""
    _, frames = play(write_clip(tmp_path / "a.mp4", even(5)))
    assert frames[0].picture.format.name == "yuv420p"
    assert frames[0].size == (64, 48)
    first, second = (np.frombuffer(f.picture.planes[0], np.uint8) for f in frames[:2])
    assert not np.array_equal(first, second)


def test_a_clip_says_what_it_is(tmp_path: Path) -> None:
    """Frame rate and count come from the container, and a clip is not live."""
    source, _ = play(write_clip(tmp_path / "a.mp4", even(20)))
    assert (source.live, source.frame_rate_hz, source.frame_count) == (False, 10.0, 20)


def test_uneven_pts_are_kept_and_gaps_counted(tmp_path: Path) -> None:
    """A clip of variable rate keeps its times; a hole in it is counted."""
    pts_s = [0.0, 0.1, 0.2, 0.3, 0.42, 0.5, 0.6, 2.0, 2.1]
    source, frames = play(write_clip(tmp_path / "a.mkv", pts_s))
    assert [f.pts_s for f in frames] == pytest.approx(pts_s, abs=0.002)
    assert source.stats.gaps == 1


def test_pts_that_start_again_go_on_in_time(tmp_path: Path) -> None:
    """Two recordings glued together: the PTS jump back is counted, the time goes on."""
    one, two = (write_clip(tmp_path / f"{n}.ts", even(30)) for n in "ab")
    glued = tmp_path / "glued.ts"
    glued.write_bytes(one.read_bytes() + two.read_bytes())
    source, frames = play(glued)
    times_s = np.array([f.time_s for f in frames])
    assert len(frames) == 60
    assert source.stats.pts_backwards == 1
    assert np.diff(times_s) == pytest.approx(np.full(59, 0.1), abs=0.01)


def test_a_raw_stream_without_pts_gets_them_from_the_rate(tmp_path: Path) -> None:
    """Annex-B H.264 has no timestamps: they are counted as missing and laid out evenly."""
    source, frames = play(write_clip(tmp_path / "a.h264", even(20), bframes=2))
    assert source.stats.pts_missing == 20
    assert np.diff([f.pts_s for f in frames]) == pytest.approx(1 / source.frame_rate_hz)


def test_a_change_of_resolution_passes_on(tmp_path: Path) -> None:
    """Frames of the new size follow those of the old one, and the change is counted."""
    parts = [write_clip(tmp_path / f"{w}.h264", even(10), size=(w, 48)) for w in (64, 96)]
    both = tmp_path / "both.h264"
    both.write_bytes(b"".join(p.read_bytes() for p in parts))
    source, frames = play(both)
    assert [f.size for f in frames] == [(64, 48)] * 10 + [(96, 48)] * 10
    assert source.stats.resolution_changes == 1


def test_a_clip_that_starts_mid_gop_waits_for_a_key_frame(tmp_path: Path) -> None:
    """Frames that refer to what was never received are not shown as grey: they are dropped and counted."""
    data = write_clip(tmp_path / "a.h264", even(20), gop=10).read_bytes()
    units = [b"\0\0\0\1" + u for u in data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]]
    first_slice = next(i for i, u in enumerate(units) if u[4] & 31 == 5)
    cut = tmp_path / "cut.h264"
    headers = b"".join(u for u in units[:first_slice] if u[4] & 31 in (7, 8))
    cut.write_bytes(headers + b"".join(units[first_slice + 1 :]))
    source, frames = play(cut)
    assert source.stats.waited_for_key_frame == 9
    assert len(frames) == 10
    assert frames[0].picture.key_frame


def test_a_truncated_clip_plays_what_it_has(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A recording that was cut off ends normally, with a warning where the container knows better."""
    whole = write_clip(tmp_path / "a.avi", even(100), codec="mpeg4")
    data = whole.read_bytes()
    whole.write_bytes(data[: data.index(b"movi") + 3000])
    with caplog.at_level(logging.WARNING):
        _, frames = play(whole)
    assert 0 < len(frames) < 100
    assert "truncated" in caplog.text


def test_damage_is_stepped_over(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Flipped bytes cost frames, not the clip; FFmpeg writes nothing to stderr."""
    clip = write_clip(tmp_path / "a.mkv", even(60))
    data, dice = bytearray(clip.read_bytes()), random.Random(3)
    for _ in range(200):
        data[dice.randrange(2000, len(data))] = dice.randrange(256)
    clip.write_bytes(data)
    source, frames = play(clip)
    assert 10 < len(frames) < 60
    assert source.stats.undecodable_packets > 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("bframes", [0, 2])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_numbers_are_those_of_the_sound_clip_after_damage(tmp_path: Path, name: str, bframes: int) -> None:
    """Frames that were lost are counted: those after the damage have the number they had before it.

    A decoder may give one frame before those that belong in front of it.
    """
    clip = write_clip(tmp_path / name, even(120), bframes=bframes, size=(160, 120))
    data = bytearray(clip.read_bytes())
    start, end = len(data) * 3 // 10, len(data) // 2
    data[start:end] = random.Random(1).randbytes(end - start)
    clip.write_bytes(data)
    source, frames = play(clip)
    right = [round((f.pts_s - frames[0].pts_s) * 10) for f in frames]
    wrong = [(f.seq, number) for f, number in zip(frames, right, strict=True) if f.seq != number]
    assert len(frames) == source.stats.frames < 110
    assert frames[-1].seq == 119
    assert len(wrong) <= (1 if bframes else 0), wrong
    assert all(a.seq < b.seq and a.pts_s < b.pts_s for a, b in itertools.pairwise(frames))


def test_a_hole_in_a_sound_clip_takes_no_numbers(tmp_path: Path) -> None:
    """A recording with pauses has the numbers of its frames, not of those that never were."""
    pts_s = [*even(30), *(5 + t for t in even(30))]
    for name in ("a.mp4", "a.mkv", "a.ts"):
        _, frames = play(write_clip(tmp_path / name, pts_s, bframes=2))
        assert [f.seq for f in frames] == list(range(60))


def test_packets_that_were_dropped_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """A decoder that falls behind a camera shows in the log, not in the counters alone."""
    source = StreamSource("rtsp://cam/1", camera="front", pace="realtime")
    session: Any = SimpleNamespace(live=True, frame_rate_hz=15.0)
    source._session = session
    reader: Any = SimpleNamespace(dropped=0)
    source._reader = reader

    def arrivals() -> Iterator[Arrival]:
        yield Arrival(None, session, time.monotonic())
        reader.dropped = 7
        yield Arrival(None, session, time.monotonic())

    reader.arrivals = arrivals
    assert len(list(source._arrivals(session))) == 2
    assert source.stats.late_packets == 7
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [
        "camera front: decoding falls behind the stream: packets dropped"
    ]


def test_realtime_keeps_the_pace_of_the_pts(tmp_path: Path) -> None:
    """No frame is released before its PTS on the monotonic clock, which captured_s is."""
    clip = write_clip(tmp_path / "a.mp4", even(6))
    source = open_source(str(clip), camera="front", pace="realtime")
    released = [(time.monotonic(), f) for f in source.frames()]
    ages_s = [at_s - f.captured_s for at_s, f in released]
    for times_s in ([f.time_s for _, f in released], [f.captured_s for _, f in released]):
        assert np.diff(times_s) == pytest.approx(np.full(5, 0.1))
    assert min(ages_s) >= 0


def test_realtime_does_not_wait_for_a_slow_consumer_twice(tmp_path: Path) -> None:
    """Frames whose time is past are released at once, in order, with their age showing; none is skipped."""
    now = [100.0]
    clip = write_clip(tmp_path / "a.mp4", even(20))
    source = StreamSource(str(clip), camera="front", pace="realtime", now=lambda: now[0])
    source.open()
    seen = []
    for frame in source.frames():
        seen.append((frame.seq, now[0] - frame.captured_s))
        now[0] += 5.0  # far slower than the clip
    assert [seq for seq, _ in seen] == list(range(20))
    assert seen[-1][1] == pytest.approx(19 * 4.9)


def test_close_ends_a_realtime_wait_at_once(tmp_path: Path) -> None:
    """The pause before a frame that is due in an hour ends with close()."""
    clip = write_clip(tmp_path / "a.mp4", [0.0, 3600.0, 3600.1])
    source = open_source(str(clip), camera="front", pace="realtime")
    frames = source.frames()
    next(frames)
    threading.Timer(0.1, source.close).start()
    assert list(frames) == []


def test_names_are_taken_as_they_are(tmp_path: Path) -> None:
    """A colon in a name is no protocol; file: URLs are understood, with percent signs."""
    clip = write_clip(tmp_path / "a.mp4", even(3))
    odd = tmp_path / "a:b c.mp4"
    odd.write_bytes(clip.read_bytes())
    for url in (str(odd), f"file:{odd}", f"file://{tmp_path}/a:b%20c.mp4"):
        assert len(play(url)[1]) == 3


def test_frames_outlive_their_source(tmp_path: Path) -> None:
    """A frame that is kept stays valid after the end: it owns its buffer."""
    _, frames = play(write_clip(tmp_path / "a.mp4", even(5)))
    assert all(f.picture.to_ndarray().shape == (72, 64) for f in frames)


BROKEN: dict[str, tuple[bytes, type[AgentError]]] = {
    "empty.mp4": (b"", BadData),
    "text.mp4": (b"hello world, I am a text\n" * 200, BadData),
    "text.txt": (b"hello world, I am a text\n" * 200, BadData),
    "random.mp4": (random.Random(1).randbytes(50000), BadData),
    "random.ts": (random.Random(2).randbytes(50000), BadData),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_video_is_refused(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Empty files, text and random bytes: one line with the name and a fix, and nothing on stderr."""
    data, expected = BROKEN[name]
    (tmp_path / name).write_bytes(data)
    refused(tmp_path / name, expected)
    assert capfd.readouterr() == ("", "")


def test_what_can_not_be_played_is_refused(tmp_path: Path) -> None:
    """A directory, no file, sound alone, no index, an unknown codec, a device, another scheme."""
    clip = write_clip(tmp_path / "a.mp4", even(20)).read_bytes()
    (tmp_path / "half.mp4").write_bytes(clip[: len(clip) // 2])
    unknown = write_clip(tmp_path / "a.avi", even(5), codec="mpeg4").read_bytes()
    (tmp_path / "unknown.avi").write_bytes(unknown.replace(b"FMP4", b"ZZZZ"))
    refused(tmp_path, BadData, "directory")
    refused(tmp_path / "nothing.mp4", InputMissing, "no such file")
    refused(write_audio(tmp_path / "a.wav"), BadData, "no video stream")
    refused(tmp_path / "half.mp4", BadData)
    refused(tmp_path / "unknown.avi", BadData, "no decoder")
    refused("/dev/null", BadData, "not a regular file")
    refused("gopher://bob:secret@host/1", UsageError, "can't read this kind of URL")


def test_a_clip_of_which_nothing_decodes_is_refused(tmp_path: Path) -> None:
    """A sound container with rubbish in it is bad data, said at the end of the attempt."""
    clip = write_clip(tmp_path / "a.mkv", even(20), gop=100)
    data = bytearray(clip.read_bytes())
    for start in range(700, len(data) - 30, 20):
        data[start : start + 12] = b"\xff" * 12
    clip.write_bytes(data)
    refused(clip, BadData)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """A missing permission is its own error."""
    clip = write_clip(tmp_path / "a.mp4", even(3))
    clip.chmod(0)
    refused(clip, NotPermitted)


def test_a_forbidden_file_by_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where the test runs as root."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    refused(write_clip(tmp_path / "a.mp4", even(3)), NotPermitted)


def test_fastest_needs_a_clip() -> None:
    """A camera has no end and can't be read faster than it comes: said before anything is connected."""
    refused("rtsp://bob:secret@127.0.0.1:9/cam", UsageError, "needs a file")


def test_a_name_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """An open that can't be interrupted ends in time for the user; its thread is left to end by itself."""
    release = threading.Event()

    def hang(*_: object) -> None:
        release.wait(HANGS_S)
        raise ServiceAway("too late")

    monkeypatch.setattr("agent.capture.reader.open_session", hang)
    before = threading.active_count()
    with pytest.raises(ServiceAway, match=r"no answer within 0.2 s: rtsp://\*\*\*@cam/1"):
        open_source(
            "rtsp://bob:secret@cam/1",
            camera="front",
            pace="realtime",
            options=StreamOptions(open_timeout_s=0.2),
        )
    release.set()
    for thread in threading.enumerate():
        if thread.name == "read front":
            thread.join(HANGS_S)
    assert threading.active_count() == before


@pytest.mark.parametrize("before_s", [None, 0.2])
def test_close_ends_an_open_that_hangs(monkeypatch: pytest.MonkeyPatch, before_s: float | None) -> None:
    """A source that is closed while, or before, it is opened raises that, and what opens late is released."""
    release, opened = threading.Event(), SimpleNamespace(closed=threading.Event())
    opened.close = opened.closed.set

    def hang(*_: object) -> SimpleNamespace:
        release.wait(HANGS_S)
        return opened

    read: list[object] = []
    monkeypatch.setattr("agent.capture.reader.open_session", hang)
    monkeypatch.setattr("agent.capture.reader.Reader._read_all", lambda *_: read.append("read"))
    options = StreamOptions(open_timeout_s=HANGS_S)
    source = make_source("rtsp://bob:secret@cam/1", camera="front", pace="realtime", options=options)
    if before_s is None:
        source.close()
    else:
        threading.Timer(before_s, source.close).start()
    with pytest.raises(ServiceAway, match=r"closed while opening: rtsp://\*\*\*@cam/1"):
        source.open()
    release.set()
    assert opened.closed.wait(HANGS_S)
    assert not read


def test_a_clip_that_was_closed_before_it_is_opened(tmp_path: Path) -> None:
    """The same for a file, which opens at once: no file descriptor is left."""
    source = make_source(str(write_clip(tmp_path / "a.mp4", even(3))), camera="front", pace="fastest")
    source.close()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count of names
    with pytest.raises(ServiceAway, match="closed while opening"):
        source.open()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_no_message_of_ffmpeg_takes_the_gil() -> None:
    """Messages of libav are thrown away in C: no Python callback is set that could deadlock with the GIL."""
    code = "import agent.capture.opening, av.logging; print(av.logging.get_level())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS_S, check=True)
    assert done.stdout == "None\n"


def test_no_file_stays_open(tmp_path: Path) -> None:
    """Sources that were read to the end or left half-way leave no file descriptor behind."""
    clip = write_clip(tmp_path / "a.mp4", even(10))
    play(clip)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count of names
    for _ in range(5):
        play(clip)
        half = open_source(str(clip), camera="front", pace="fastest").frames()
        next(half)
        half.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def refused(url: Path | str, expected: type[AgentError], text: str = "") -> None:
    """Check that `url` raises exactly `expected`, in one redacted line with a fix."""
    with pytest.raises(AgentError) as caught:
        play(url)
    assert type(caught.value) is expected, caught.value
    assert text in str(caught.value)
    assert caught.value.fix
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_damaged_pictures_are_counted(tmp_path: Path) -> None:
    """Bytes flipped within the pictures give pictures that the decoder patched up: it says so, and it is counted."""
    clip = write_clip(tmp_path / "a.ts", even(40), size=(320, 240))
    sound, _ = play(clip)
    assert (sound.stats.corrupt_frames, sound.stats.link.kind) == (0, "up")
    data = bytearray(clip.read_bytes())
    for at in range(len(data) // 3, len(data) // 2, 997):
        data[at] ^= 0xFF
    clip.write_bytes(data)
    broken, frames = play(clip)
    assert broken.stats.corrupt_frames + broken.stats.undecodable_packets > 3
    assert broken.stats.corrupt_frames == sum(frame.picture.is_corrupt for frame in frames)


def test_decoding_is_noted(tmp_path: Path) -> None:
    """Who watches hears when a packet is being decoded, and that it is over."""

    class Noted(Beat):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[str] = []

        def begin(self, call: str, now_s: float) -> None:
            self.calls.append(call)
            super().begin(call, now_s)

    beat = Noted()
    play(write_clip(tmp_path / "a.mp4", even(5)), options=StreamOptions(beat=beat))
    assert set(beat.calls) == {"decode"}
    assert len(beat.calls) >= 5
    assert not beat.read("capture").call
