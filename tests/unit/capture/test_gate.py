"""The gate: when only key frames are decoded, and what ends that."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture import gate as limits
from agent.capture.gate import Gate, Sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.capture.gate import Verdict

FPS, GOP = 25, 50
STILL = np.full((27, 48), 100, np.float32)
MOVED = STILL.copy()
MOVED[10:16, 20:26] = 180


@dataclass
class Camera:
    """A stream at a gate: `step()` is one packet, and what a decoder would tell the gate then."""

    gop: int = GOP
    fps: int = FPS
    number: int = 0
    offset_s: float = 0.0
    busy: bool = False
    picture: np.ndarray = field(default_factory=lambda: STILL)
    size_bytes: Callable[[], int] = lambda: 1000
    verdicts: list[Verdict] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate = Gate(lambda: self.busy)

    @property
    def time_s(self) -> float:
        return self.number / self.fps + self.offset_s

    def step(self) -> Verdict:
        key = self.number % self.gop == 0 if self.gop else self.number == 0
        verdict = self.gate.packet(key=key, size_bytes=self.size_bytes(), time_s=self.time_s)
        if verdict == "look":
            assert key
            self.gate.looked(self.picture)
        elif verdict == "decode" and self.gate.wants_picture():
            self.gate.watched(self.picture)
        self.number += 1
        self.verdicts.append(verdict)
        return verdict

    def run(self, seconds: float) -> list[Verdict]:
        return [self.step() for _ in range(round(seconds * self.fps))]

    def until(self, wanted: Iterable[Verdict], *, at_most_s: float = 60.0) -> Verdict:
        """Step up to the first of the verdicts."""
        for _ in range(round(at_most_s * self.fps)):
            if self.step() in wanted:
                return self.verdicts[-1]
        pytest.fail(f"none of {wanted}")


def resting(**settings_: object) -> Camera:
    """Return a camera in idle, just after a key frame was looked at."""
    camera = Camera(**settings_)  # type: ignore[arg-type]
    camera.until(["look"])
    assert camera.gate.idle
    return camera


def test_idle_begins_at_a_key_frame_once_their_distance_is_known() -> None:
    """Three key frames are awaited, then one a GOP is looked at and the rest kept."""
    camera = Camera()
    assert set(camera.run(2 * GOP / FPS)) == {"decode"}
    assert camera.run(3 * GOP / FPS) == (["look"] + ["hold"] * (GOP - 1)) * 3
    assert camera.gate.idle_s == pytest.approx(3 * GOP / FPS, abs=0.1)
    assert camera.gate.miss_window_s == GOP / FPS


def test_what_moves_keeps_it_awake() -> None:
    """No idle while pictures change, and QUIET_S of none before it."""
    camera = Camera(gop=10)
    for n in range(200):
        camera.picture = STILL + n * np.eye(27, 48, dtype=np.float32) * 8
        assert camera.step() == "decode"
    last_s = camera.time_s
    camera.until(["look"])
    assert camera.time_s - last_s >= limits.QUIET_S - limits.WATCH_S


def test_a_busy_consumer_keeps_it_awake_and_wakes_it() -> None:
    """Someone who stands still is no motion: the consumer's word counts, at the next packet."""
    camera = Camera(busy=True)
    assert set(camera.run(20)) == {"decode"}
    camera.busy = False
    camera.until(["look"], at_most_s=GOP / FPS + 0.1)
    camera.run(0.5)
    camera.busy = True
    assert camera.step() == "wake"
    assert camera.gate.wakes == {"motion": 0, "sizes": 0, "busy": 1, "overdue": 0}
    assert set(camera.run(20)) == {"decode"}


def test_motion_between_key_frames_wakes() -> None:
    """A key frame unlike the one before ends idle at once, and is told as motion."""
    camera = resting()
    camera.picture = MOVED
    camera.until(["look"])
    assert not camera.gate.idle
    assert camera.step() == "decode"
    assert camera.gate.wakes["motion"] == 1


def test_a_jump_of_packet_sizes_wakes_before_the_next_key_frame() -> None:
    """Packets twice as large as usual are noticed within three."""
    dice = random.Random(1)
    camera = resting(size_bytes=lambda: dice.randrange(950, 1050))
    camera.run(10.2)
    camera.size_bytes = lambda: dice.randrange(2400, 2600)
    assert "wake" in [camera.step() for _ in range(3)]
    assert camera.gate.wakes["sizes"] == 1


def test_a_single_large_packet_does_not_wake() -> None:
    """One odd packet is no jump."""
    camera = resting()
    camera.run(1)
    camera.size_bytes = lambda: 100_000
    camera.step()
    camera.size_bytes = lambda: 1000
    assert set(camera.run(20)) == {"hold", "look"}


@pytest.mark.parametrize("spread", [0.05, 0.3, 1.0])
def test_noise_alone_hardly_ever_is_a_jump(spread: float) -> None:
    """Sizes that scatter, however wide, give an alarm less than once in a thousand packets."""
    numbers = np.random.default_rng(0)
    sizes = Sizes()
    alarms = sum(sizes.jumped(int(s)) for s in 2000 * np.exp(numbers.normal(0, spread, 5000)))
    assert alarms <= 5


def test_false_alarms_make_it_deaf_for_smaller_jumps() -> None:
    """The same jump wakes less and less when there is nothing to see each time, and again after true ones."""

    def hears(sizes: Sizes) -> bool:
        for _ in range(200):
            sizes.jumped(1000)
        jumps = [sizes.jumped(2000) for _ in range(3)]
        return True in jumps

    sizes = Sizes()
    assert hears(sizes)
    for _ in range(5):
        sizes.trust(right=False)
    assert not hears(sizes)
    for _ in range(5):
        sizes.trust(right=True)
    assert hears(sizes)


def test_a_key_frame_that_does_not_come_ends_idle() -> None:
    """A camera that makes its GOPs longer on a still scene is decoded from the last key frame on."""
    camera = resting()
    camera.run(3)
    camera.gop = 0
    camera.until(["wake"], at_most_s=10)
    assert camera.gate.wakes["overdue"] == 1
    assert set(camera.run(60)) == {"decode"}


def test_without_key_frames_there_is_no_idle() -> None:
    """A stream of intra refresh is decoded whole; after a while that is said, and no miss window claimed."""
    camera = Camera(gop=0)
    assert set(camera.run(limits.PATIENCE_S - 1)) == {"decode"}
    assert camera.gate.obstacle is None
    camera.run(2)
    assert camera.gate.obstacle == "no regular key frames"
    assert camera.gate.miss_window_s == 0


def test_key_frames_too_far_apart_are_not_waited_for() -> None:
    """A GOP of a minute is decoded whole, and its length is said."""
    camera = Camera(gop=60 * FPS)
    assert set(camera.run(200)) == {"decode"}
    assert camera.gate.obstacle == "key frames up to 60 s apart"


def test_a_long_gop_is_used_and_published() -> None:
    """Key frames 20 s apart: idle, with 20 s of miss window."""
    camera = resting(gop=20 * FPS)
    assert camera.gate.miss_window_s == pytest.approx(20)
    assert set(camera.run(60)) == {"hold", "look"}


def test_a_stream_of_key_frames_alone_is_looked_at_on_a_grid() -> None:
    """MJPEG in idle: about one frame in LOOK_S, and the window says so."""
    camera = resting(gop=1)
    looks = camera.run(60).count("look")
    assert 0.8 * 60 / limits.LOOK_S < looks <= 60 / limits.LOOK_S
    assert camera.gate.all_key
    assert camera.gate.miss_window_s == pytest.approx(limits.LOOK_S + 1 / FPS)


def test_sizes_tell_in_a_stream_of_key_frames_too() -> None:
    """A JPEG grows with what it shows."""
    camera = resting(gop=1)
    camera.run(5)
    camera.size_bytes = lambda: 2000
    assert "wake" in [camera.step() for _ in range(3)]


def test_time_that_goes_back_in_idle_is_another_stream() -> None:
    """What was kept is decoded, and idle must be earned again."""
    camera = resting()
    camera.run(1)
    camera.offset_s = -1000
    assert camera.step() == "wake"
    assert set(camera.run(1.5 * GOP / FPS)) == {"decode"}


def test_another_size_of_picture_is_a_change() -> None:
    """A change of resolution wakes."""
    camera = resting()
    camera.picture = np.full((20, 40), 100, np.float32)
    camera.until(["look"])
    assert not camera.gate.idle


def test_light_that_changes_for_all_is_no_motion() -> None:
    """An exposure step of a tenth between two key frames does not wake."""
    camera = resting()
    camera.picture = STILL * np.float32(1.1)
    assert set(camera.run(10)) == {"hold", "look"}


def test_pictures_that_cannot_be_compared_keep_it_awake() -> None:
    """Ten-bit luma is not read: everything is decoded, and that is said."""
    camera = Camera(gop=10)
    camera.picture = None  # type: ignore[assignment]
    assert set(camera.run(100)) == {"decode"}
    assert camera.gate.obstacle == "its key frames can't be compared"


STEPS = st.tuples(
    st.sampled_from([0.04, 0.5, 3.0, 0.0, -5.0, 100.0]),  # seconds since the packet before
    st.booleans(),  # a key frame
    st.integers(1, 10**6),  # bytes
    st.sampled_from([False, False, False, True]),  # busy
    st.sampled_from([STILL, MOVED]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, min_size=20, max_size=60))
def test_whatever_comes_the_verdicts_make_sense(
    steps: list[tuple[float, bool, int, bool, np.ndarray]],
) -> None:
    """Looks only at key frames, holds only in idle, none while busy; a wake ends idle; counters only grow."""
    busy = False
    gate, time_s, before_s = Gate(lambda: busy), 0.0, 0.0
    for step_s, key, size_bytes, busy, picture in steps:
        time_s += step_s
        was_idle = gate.idle
        verdict = gate.packet(key=key, size_bytes=size_bytes, time_s=time_s)
        assert (verdict in ("hold", "look")) == gate.idle
        assert verdict != "look" or key
        assert verdict not in ("hold", "look") or not busy
        assert verdict not in ("wake", "hold") or was_idle
        if verdict == "look":
            assert gate.looked(picture) != gate.idle
        elif gate.wants_picture():
            gate.watched(picture)
        assert gate.idle_s >= before_s
        before_s = gate.idle_s
