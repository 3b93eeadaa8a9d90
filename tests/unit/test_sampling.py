"""Sampling: even rates, motion against noise and light, and a miss window that holds."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import Sampling
from agent.luma import block_means, changed_share, luma_of
from agent.sampling import RateMeter, make_sampler, miss_window_s
from agent.throttle import FACTORS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

WIDTH, HEIGHT = 768, 576


def no_luma() -> None:
    """Stand for a picture that must not be asked for."""
    raise AssertionError("the picture was read")


def kept_times(
    options: Sampling, times: list[float], luma: Callable[[], object] = no_luma, budget: float = 1.0
) -> list[float]:
    """Return the times that a fresh sampler keeps with this share of its rate."""
    sampler = make_sampler(options, lambda: budget)
    return [t for t in times if sampler.keep(t, luma)]


@pytest.mark.parametrize(
    ("source_hz", "hz"), [(25, 10), (24, 10), (30, 10), (29.97, 10), (12.5, 10), (15, 10), (60, 7), (30, 0.5)]
)
def test_uniform_gives_its_rate_in_the_mean(source_hz: float, hz: float) -> None:
    """A source that is no multiple of the rate still gives the rate, within one frame over a minute."""
    kept = kept_times(Sampling(mode="uniform", hz=hz), [k / source_hz for k in range(int(60 * source_hz))])
    assert abs(len(kept) - 60 * hz) <= 1
    assert min(b - a for a, b in pairwise(kept)) >= 0.5 / hz


@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 5.0, 10.0, 30.0]))
def test_uniform_keeps_every_frame_of_a_jittering_source_at_its_rate(seed: int, hz: float) -> None:
    """A nominal 10 fps source at 10 Hz keeps all of its frames under a jitter of 10 % of a frame."""
    jitter = np.random.default_rng(seed).uniform(-0.1, 0.1, 300)
    times = ((np.arange(300) + jitter) / hz).tolist()
    assert len(kept_times(Sampling(mode="uniform", hz=hz), times)) == 300


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=300), st.floats(0.5, 30.0))
def test_uniform_never_goes_above_its_rate(steps: list[float], hz: float) -> None:
    """Any stretch of n periods holds at most n + 2.25 kept frames, whatever the source does."""
    kept = kept_times(Sampling(mode="uniform", hz=hz), np.cumsum(steps).tolist())
    assert all(b - a >= 0.5 / hz - 1e-9 for a, b in pairwise(kept))
    ahead = np.arange(len(kept)) - np.array(kept) * hz
    assert (ahead - np.minimum.accumulate(ahead)).max() + 1 <= 2.25 + 1e-6


def test_uniform_starts_again_after_a_jump_back() -> None:
    """A clip that starts over is sampled at once."""
    sampler = make_sampler(Sampling(mode="uniform", hz=2))
    assert sampler.keep(100.0, no_luma)
    assert sampler.keep(0.0, no_luma)
    assert not sampler.keep(0.1, no_luma)
    assert sampler.keep(0.5, no_luma)


def test_interval_keeps_every_nth_without_looking() -> None:
    """Every third frame, the first included, whatever the times."""
    assert kept_times(Sampling(mode="interval", every_n=3), [0.0, 5.0, 1.0, 1.0, 2.0, 9.0, 9.1]) == [
        0.0,
        1.0,
        9.1,
    ]


@pytest.mark.parametrize("budget", FACTORS)
@pytest.mark.parametrize(
    ("options", "full_hz"),
    [
        (Sampling(mode="uniform", hz=10), 10.0),
        (Sampling(mode="interval", every_n=1), 25.0),
        (Sampling(mode="interval", every_n=7), 25 / 7),
        (Sampling(mode="motion", min_hz=0.5, max_hz=8), 8.0),
    ],
)
def test_a_budget_slows_every_sampler_by_its_share(options: Sampling, full_hz: float, budget: float) -> None:
    """Over ten minutes at 25 fps each mode infers the budget's share of what it would; motion while it moves."""
    kept = kept_times(options, [k / 25 for k in range(15000)], lambda: None, budget)
    assert len(kept) == pytest.approx(600 * full_hz * budget, abs=2)


def test_a_budget_slows_motion_at_rest_too() -> None:
    """With half the rate, a still scene at min_hz 0.5 is looked at every four seconds."""
    still = np.full((64, 64), 100, np.uint8)
    kept = kept_times(MOTION, [k / 25 for k in range(1500)], lambda: still, 0.5)
    assert [b - a for a, b in pairwise(kept)][-10:] == pytest.approx([4.0] * 10, abs=0.05)


def test_a_budget_may_change_at_any_frame() -> None:
    """One number slows and frees all samplers that look at it, without a pause or a burst."""
    budget = 1.0
    sampler = make_sampler(Sampling(mode="uniform", hz=10), lambda: budget)
    kept = []
    for k in range(3000):
        budget = 0.25 if 1000 <= k < 2000 else 1.0
        if sampler.keep(k / 50, no_luma):
            kept.append(k // 1000)
    assert [kept.count(part) for part in range(3)] == pytest.approx([200, 50, 200], abs=2)


def scene(seed: int = 0, noise: float = 8.0) -> Callable[..., NDArray[np.uint8]]:
    """Return a maker of grainy luma, every 4th sample: `draw(x)` has a person of 1 % of the area."""
    rng = np.random.default_rng(seed)
    ground = np.kron(rng.uniform(60, 170, (HEIGHT // 32, WIDTH // 32)), np.ones((8, 8)))

    def draw(x: int | None = None, gain: float = 1.0) -> NDArray[np.uint8]:
        picture = ground.copy()
        if x is not None:
            picture[50:76, x // 4 : (x + 42) // 4] = 20.0
        picture = picture * gain + rng.normal(0, noise, picture.shape)
        return np.clip(picture, 0, 255).astype(np.uint8)

    return draw


MOTION = Sampling(mode="motion", min_hz=0.5, max_hz=10.0)


def kept_of(frames: list[NDArray[np.uint8]], hz: float = 25.0, options: Sampling = MOTION) -> int:
    """Return how many of `frames` a motion sampler keeps."""
    sampler = make_sampler(options)
    return sum(sampler.keep(k / hz, lambda f=frame: f) for k, frame in enumerate(frames))


def test_motion_rests_at_min_hz_in_noise() -> None:
    """Sensor noise of sigma 8 is no motion: after the first second, one frame in two seconds."""
    draw = scene()
    assert kept_of([draw() for _ in range(275)]) <= 10 + 6


def test_motion_rests_while_the_light_flickers() -> None:
    """A flicker of the whole picture by 15 % is no motion."""
    draw = scene()
    assert kept_of([draw(gain=1.0 + 0.15 * np.sin(k)) for k in range(275)]) <= 10 + 6


def test_motion_follows_a_walking_person_at_max_hz() -> None:
    """A person of 1 % of the area who crosses the picture in 10 s is followed at 10 Hz."""
    draw = scene()
    quiet = [draw() for _ in range(50)]
    walk = [draw(x=20 + int(2.8 * k)) for k in range(250)]
    assert kept_of(quiet + walk) - kept_of(quiet) >= 95


def test_motion_rests_while_the_light_fades() -> None:
    """Dusk in ten seconds is no motion."""
    draw = scene()
    assert kept_of([draw(gain=1.0 - k / 800) for k in range(275)]) <= 10 + 6


def test_motion_looks_only_when_a_frame_is_due() -> None:
    """Frames above max_hz are dropped without reading the picture."""
    sampler = make_sampler(MOTION)
    assert sampler.keep(0.0, scene())
    assert not sampler.keep(0.04, no_luma)


def test_motion_takes_an_unreadable_format_as_motion(caplog: pytest.LogCaptureFixture) -> None:
    """Without luma every frame that is due is kept, and that is said once."""
    kept = kept_times(MOTION, [k / 20 for k in range(100)], lambda: None)
    assert len(kept) == 50
    assert len(caplog.records) == 1


def test_changed_share_of_another_size_is_all_of_it() -> None:
    """A stream that changes its resolution counts as changed."""
    assert changed_share(np.ones((4, 4), np.float32), np.ones((4, 5), np.float32)) == 1.0


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (8, 8), (147, 191)])
def test_block_means_of_any_size(shape: tuple[int, int]) -> None:
    """Blocks of a constant picture have its value, however small it is."""
    assert (block_means(np.full(shape, 255, np.uint8)) == 255).all()


@pytest.mark.parametrize("name", ["yuv420p", "yuvj420p", "nv12", "gray", "yuyv422", "uyvy422", "yuv444p"])
def test_luma_is_a_view_of_the_decoders_plane(name: str) -> None:
    """The luma of an 8-bit format is the plane itself, rows of a padded plane included."""
    ramp = np.tile(np.arange(100, dtype=np.uint8) * 2 + 16, (60, 1))
    picture = av.VideoFrame.from_ndarray(ramp, format="gray").reformat(
        format=name, src_color_range="JPEG", dst_color_range="JPEG"
    )
    luma = luma_of(picture, 2)
    assert luma is not None
    assert luma.shape == (30, 50)
    assert not luma.flags.owndata
    assert np.abs(luma.astype(int) - ramp[::2, ::2]).max() <= 2


def test_luma_of_ten_bits_is_not_guessed() -> None:
    """A format whose luma is no byte per pixel has none to show."""
    assert luma_of(av.VideoFrame(64, 64, "yuv420p10le")) is None


def test_the_default_step_gives_about_192_columns() -> None:
    """Full HD and VGA are sampled alike."""
    for width in (640, 768, 1920):
        luma = luma_of(av.VideoFrame(width, 64, "gray"))
        assert luma is not None
        assert 190 <= luma.shape[1] <= 220


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([
        Sampling(mode="uniform", hz=10), Sampling(mode="uniform", hz=3), Sampling(mode="interval", every_n=1),
        Sampling(mode="interval", every_n=4), Sampling(mode="motion", min_hz=1, max_hz=8),
    ]),
    st.floats(5.0, 30.0),
    st.floats(0.001, 1.0),
    st.sampled_from(FACTORS),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_miss_window_bounds_every_gap(
    options: Sampling, source_hz: float, inference_s: float, budget: float, seed: int
) -> None:
    """With a newest-wins slot, any engine and any budget, no gap between inferred frames exceeds the bound."""
    rng = np.random.default_rng(seed)
    moves = rng.random(400) < 0.3
    sampler = make_sampler(options, lambda: budget)
    pictures = [np.full((16, 16), 100, np.uint8), np.pad(np.full((8, 8), 250, np.uint8), 4)]
    waiting, free_s, inferred = None, 0.0, []
    for k in range(400):
        now_s = k / source_hz
        if waiting is not None and free_s <= now_s:
            inferred.append(waiting)
            waiting, free_s = None, free_s + inference_s
        if sampler.keep(now_s, lambda k=k: pictures[int(moves[k])]):
            if free_s <= now_s:
                inferred.append(now_s)
                free_s = now_s + inference_s
            else:
                waiting = now_s
    bound = miss_window_s(options, source_hz, inference_s, budget)
    assert max((b - a for a, b in pairwise(inferred)), default=0.0) <= bound + 1e-9


def test_rate_meter_tells_what_was_achieved() -> None:
    """A slow engine lowers the rate and widens the window; a stall shows for a while."""
    options = Sampling(mode="uniform", hz=10)
    meter = RateMeter(options, window_s=10.0)
    assert meter.report(0.0).miss_window_s is None
    assert meter.report(25.0).effective_hz == 0.0
    for k in range(20):
        meter.inferred(k / 4, 0.25)
    report = meter.report(25.0)
    assert report.effective_hz == pytest.approx(4.0)
    assert report.miss_window_s == pytest.approx(0.25 + 0.14)
    meter.inferred(8.0, 0.25)
    assert meter.report(25.0).miss_window_s == pytest.approx(3.25)
    for k in range(50):
        meter.inferred(8.25 + k / 4, 0.25)
    assert meter.report(25.0).miss_window_s == pytest.approx(0.39)


def test_rate_meter_tells_the_wider_window_of_a_budget() -> None:
    """At half the rate an object can stay unseen for twice the period."""
    meter = RateMeter(Sampling(mode="uniform", hz=10), budget=lambda: 0.5)
    assert meter.report(25.0).miss_window_s == pytest.approx(0.2 + 0.04)


def test_rate_meter_survives_a_jump_back() -> None:
    """Another recording starts another window."""
    meter = RateMeter(Sampling(mode="uniform", hz=10))
    for time_s in (100.0, 0.0, 0.1, 0.2):
        meter.inferred(time_s, 0.0)
    assert meter.report(10.0).effective_hz == pytest.approx(10.0)


def test_rate_meter_tells_that_nothing_comes_any_more() -> None:
    """The rate as of now falls while nothing is inferred, down to 0; a frame that is not late yet changes nothing."""
    meter = RateMeter(Sampling(mode="uniform", hz=2), window_s=10.0)
    for k in range(21):
        meter.inferred(k / 2, 0.0)
    assert meter.report(25.0, 10.0).effective_hz == pytest.approx(2.0)
    assert meter.report(25.0, 10.4).effective_hz == pytest.approx(2.0, rel=0.06)
    assert 0.9 < meter.report(25.0, 15.0).effective_hz < 1.2
    assert meter.report(25.0, 15.0).miss_window_s == pytest.approx(5.0)
    assert meter.report(25.0, 40.0).effective_hz == 0.0
    assert meter.report(25.0, 40.0).miss_window_s == pytest.approx(30.0)
