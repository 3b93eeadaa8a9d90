"""The runs on a real model: the same frames go through all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from agent.bench import clip
from agent.bench.loops import Rig, agent, bare, open_rig, plain, run_cameras, together
from agent.bench.naive import converter, naive
from agent.bench.session import IDLE_FRAMES, SETTLE_FRAMES
from agent.bench.sources import LoopedCamera
from agent.capture import StreamOptions
from agent.config import Sampling
from agent.errors import BadData
from agent.preprocess import Preprocessor
from agent.starter import sample_clip, starter_bundle
from tests.patience import HANGS_S

FRAMES = 12


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """Return the starter model on one thread."""
    opened = open_rig(starter_bundle(), threads=1)
    yield opened
    opened.engine.close()


def test_the_bare_engine_does_nothing_but_infer(rig: Rig) -> None:
    """Almost all of the processor time is the engine's."""
    run = bare(rig, FRAMES)
    assert (run.frames, run.inferred) == (FRAMES, FRAMES)
    assert run.engine_cpu_s > 2 * run.other_cpu_s
    assert set(run.times) == {"infer"}


def test_the_frame_path_and_the_plain_loop_infer_every_frame(rig: Rig) -> None:
    """With a time for each stage, and nothing dropped."""
    for run in (agent(rig, sample_clip(), FRAMES), plain(rig, sample_clip(), FRAMES)):
        assert (run.frames, run.inferred) == (FRAMES, FRAMES)
        assert set(run.times) == {"decode", "prepare", "infer", "finish"}
        assert not any(run.drops.values())
        assert min(run.wall_s, run.engine_cpu_s, run.other_cpu_s) > 0


def test_sampling_leaves_out_frames_before_they_are_inferred(rig: Rig) -> None:
    """5 Hz of a clip of 10 frames/s: every second frame."""
    run = agent(rig, sample_clip(), FRAMES, sampling=Sampling(mode="uniform", hz=5.0))
    assert (run.frames, run.inferred, run.drops["not sampled"]) == (FRAMES, FRAMES // 2, FRAMES // 2)


def test_at_the_clips_own_pace_ages_are_told(rig: Rig) -> None:
    """12 frames of a clip of 10 frames/s take 1.1 s, and what was not replaced has an age."""
    run = agent(rig, sample_clip(), FRAMES, pace="realtime")
    assert run.inferred + run.drops["replaced by a newer one"] == FRAMES
    assert run.times["age"].p50_ms > 0
    assert "decode" not in run.times, "it would hold the wait"


def test_what_comes_before_the_measured_part_is_not_counted(rig: Rig) -> None:
    """The frames, and the processor time."""
    whole, part = (agent(rig, sample_clip(), 40, settle=settle) for settle in (0, 36))
    assert (whole.frames, part.frames) == (40, 4)
    assert part.engine_cpu_s < whole.engine_cpu_s / 2


def test_the_still_clip_is_mostly_not_decoded_in_idle(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the bench calls idle is: of each 50 packets one key frame is decoded; awake all of them."""
    monkeypatch.setattr(clip, "_SIZE_PX", (320, 180))
    if "libx264" not in av.codecs_available:
        pytest.skip("PyAV without libx264")
    still = clip.still_clip(tmp_path, 0.2)
    sampling = Sampling(mode="uniform", hz=5.0)
    options = StreamOptions(decode="keyframes_when_idle")
    idle = agent(rig, still, IDLE_FRAMES, sampling=sampling, options=options, settle=SETTLE_FRAMES)
    assert idle.frames == IDLE_FRAMES - SETTLE_FRAMES
    assert idle.not_decoded >= 0.9 * idle.frames
    assert idle.idled
    awake = agent(rig, still, 20, sampling=sampling)
    assert (awake.not_decoded, awake.idled) == (0, False)


def test_the_opencv_loop_reads_every_frame_and_infers_every_nth(rig: Rig) -> None:
    """From the first on."""
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    assert (naive(rig, sample_clip(), FRAMES).frames, naive(rig, sample_clip(), FRAMES).inferred) == (12, 12)
    run = naive(rig, sample_clip(), FRAMES, every_n=5)
    assert (run.frames, run.inferred) == (FRAMES, 3)


def test_the_opencv_loop_with_grab_infers_the_same_frames(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """And converts only those: 3 of 12, the first by read()."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    calls: list[str] = []

    class Counted:
        def __init__(self, path: str) -> None:
            self._reader = cv2.VideoCapture(path)

        def __getattr__(self, name: str) -> Any:
            calls.append(name)
            return getattr(self._reader, name)

    monkeypatch.setattr(
        "agent.bench.naive.require_opencv",
        lambda _: SimpleNamespace(**{**vars(cv2), "VideoCapture": Counted}),
    )
    for grab, retrieved in ((True, 2), (False, FRAMES)):
        calls.clear()
        run = naive(rig, sample_clip(), FRAMES, every_n=5, grab=grab)
        assert (run.frames, run.inferred) == (FRAMES, 3)
        assert (calls.count("grab"), calls.count("retrieve")) == (FRAMES, retrieved)


def test_the_opencv_loop_can_have_a_cameras_pace(rig: Rig) -> None:
    """12 frames at 25 a second: the wall clock runs for 12 of their times."""
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    assert naive(rig, sample_clip(), FRAMES, every_n=5, frame_rate_hz=25.0).wall_s >= FRAMES / 25


def test_opening_the_clip_is_not_counted_in_the_opencv_loop(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is not in the agent's: the clocks start after the first frame was read."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

    class SlowToOpen:
        def __init__(self, path: str) -> None:
            self._reader = cv2.VideoCapture(path)
            end_s = time.process_time() + 1.0
            while time.process_time() < end_s:
                pass

        def __getattr__(self, name: str) -> Any:
            return getattr(self._reader, name)

    monkeypatch.setattr(
        "agent.bench.naive.require_opencv",
        lambda _: SimpleNamespace(**{**vars(cv2), "VideoCapture": SlowToOpen}),
    )
    assert naive(rig, sample_clip(), 2).other_cpu_s < 0.9


def test_the_opencv_loop_says_what_it_can_not_read(rig: Rig, tmp_path: Path) -> None:
    """One line instead of None."""
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    with pytest.raises(BadData, match="OpenCV can't read the clip"):
        naive(rig, tmp_path / "none.mp4", FRAMES)


def test_the_opencv_loop_feeds_the_model_what_the_agent_does(rig: Rig) -> None:
    """The same numbers for a picture of one colour, which scaling can't change, within rounding of YUV."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    spec = rig.bundle.manifest.input
    colour = np.full((spec.height, spec.width, 3), (40, 90, 200), np.uint8)  # blue, green, red
    prepare = Preprocessor(spec, rig.engine.input, layout=rig.bundle.artifact().layout)
    ours = prepare(av.VideoFrame.from_ndarray(colour, format="bgr24")).tensor
    theirs = converter(cv2, rig)(colour)
    assert (theirs.shape, theirs.dtype) == (ours.shape, ours.dtype)
    assert np.abs(theirs.astype(float) - ours.astype(float)).max() <= 3


def test_cameras_share_the_engine_until_the_work_meanwhile_is_done(rig: Rig) -> None:
    """Each is served."""
    stages = [rig.stages() for _ in range(3)]
    enough = threading.Event()

    def wait() -> None:
        for _ in range(1000):
            if all(one.inferred >= 3 for one in stages):
                enough.set()
                return
            enough.wait(0.01)

    cameras = [(LoopedCamera(sample_clip(), 40.0), one, Sampling()) for one in stages]
    run_cameras(rig, cameras, eager=False, meanwhile=wait)
    assert enough.is_set()


def test_a_fault_of_one_thread_ends_the_others_and_is_raised() -> None:
    """Nobody waits for ever."""
    stop = threading.Event()

    def fail() -> None:
        raise BadData("broken")

    with pytest.raises(BadData, match="broken"):
        together([lambda: stop.wait(HANGS_S) and None, fail], stop.set)
    assert stop.is_set()


def test_a_fault_meanwhile_ends_the_threads_too() -> None:
    """As when the bench is interrupted."""
    stop = threading.Event()

    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        together([lambda: stop.wait(HANGS_S) and None], stop.set, fail)
    assert stop.is_set()
