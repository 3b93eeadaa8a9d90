"""What follows from measurements: the choice, its explanation, the warning about INT8."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.backends.choice import Choice
from agent.measured import Measured, Tuning, choose, factor, slower_int8
from agent.measured.verdict import AS_FAST, beside

CHOICES = st.builds(
    Choice,
    backend=st.sampled_from(["litert", "tflite-runtime", "tensorrt"]),
    artifact=st.sampled_from(["a", "b"]),
    precision=st.sampled_from(["int8", "fp16", "fp32"]),
    threads=st.integers(1, 8),
    delegate=st.booleans(),
)
MEASURED = st.builds(
    Measured,
    choice=CHOICES,
    p50_ms=st.none() | st.floats(0.01, 1e4),
    peak_rss_mb=st.none() | st.floats(1, 1e4),
    objection=st.sampled_from(["", "", "it crashed"]),
)


def measured(
    precision: str, p50_ms: float | None, *, backend: str = "litert", threads: int = 2, delegate: bool = True
) -> Measured:
    choice = Choice(backend, f"{precision}.tflite", precision, threads, delegate)
    return Measured(choice, p50_ms=p50_ms)


@given(st.lists(MEASURED, max_size=12))
def test_the_chosen_is_as_fast_as_any_and_none_as_fast_asks_for_less(entrants: list[Measured]) -> None:
    """No objection, within the tolerance of the fastest; none of its equals has fewer threads or less memory."""
    best = choose(entrants)
    allowed = [each for each in entrants if each.p50_ms is not None and not each.objection]
    if best is None:
        assert not allowed
        return
    assert best in allowed
    limit_ms = min(each.p50_ms for each in allowed) * AS_FAST
    equals = [each for each in allowed if each.p50_ms <= limit_ms]
    assert best in equals
    assert best.choice.threads == min(each.choice.threads for each in equals)
    alike = [each for each in equals if each.choice.threads == best.choice.threads]
    assert (best.peak_rss_mb or 0) == min(each.peak_rss_mb or 0 for each in alike)


@given(st.lists(MEASURED, max_size=6), st.randoms())
def test_the_order_of_the_entrants_decides_nothing(entrants: list[Measured], random) -> None:
    """But between two that are alike in everything that counts."""
    shuffled = list(entrants)
    random.shuffle(shuffled)
    one, other = choose(entrants), choose(shuffled)
    for key in ("p50_ms", "peak_rss_mb"):
        assert getattr(one, key, None) == getattr(other, key, None)


@given(MEASURED, st.lists(MEASURED, max_size=12))
def test_words_and_factors_hold_for_whatever_was_measured(best: Measured, entrants: list[Measured]) -> None:
    """Nothing that can be measured makes the explanation fail."""
    for name, times in beside(best, entrants):
        assert name
        assert times > 0
    assert "slower" in (slower_int8(best, entrants) or "slower")


def test_fewer_threads_win_among_those_as_fast() -> None:
    """Three threads that gain 4 % are not worth two cores."""
    one, three = measured("int8", 10.4, threads=1), measured("int8", 10.0, threads=3)
    assert choose([three, one]) is one
    assert choose([three, measured("int8", 10.6, threads=1)]) is three


def test_what_a_picture_takes_of_several_at_once_is_what_counts() -> None:
    """Four cameras: 12 ms for four together are less than 4 ms for each. One camera: the engine for one is faster."""
    single = measured("fp16", 4.0, backend="tensorrt", threads=1)
    several = Measured(msgspec.structs.replace(single.choice, batch=4), p50_ms=5.0, batch=4, batch_ms=12.0)
    assert several.each_ms == 3.0
    assert choose([single, several]) is several
    assert factor(several, single) == pytest.approx(4 / 3)
    assert choose([single, msgspec.structs.replace(several, batch=1, batch_ms=None)]) is single


def test_each_thing_that_differs_is_told_with_its_factor() -> None:
    """Precision, delegate and runtime, each alone and at the same threads."""
    best = measured("int8", 4.0)
    others = [
        best,
        measured("fp32", 8.4),
        measured("int8", 36.0, delegate=False),
        measured("int8", 3.0, threads=4),
        measured("fp32", 99.0, delegate=False),
        measured("int8", 30.0, backend="tflite-runtime"),
        measured("fp16", None),
    ]
    assert beside(best, others) == [("fp32", 2.1), ("no delegate", 9.0), ("tflite-runtime", 7.5)]


def test_beside_tensorrt_the_best_of_the_processor_is_told() -> None:
    """Whatever its precision and threads."""
    best = measured("int8", 2.0, backend="tensorrt", threads=1)
    others = [measured("int8", 20.0, threads=3), measured("int8", 30.0, threads=1), measured("fp32", 50.0)]
    assert beside(best, others) == [("litert int8", 10.0), ("litert fp32", 25.0)]


@pytest.mark.parametrize(
    ("int8_ms", "fp32_ms", "words"),
    [
        (5.0, 9.0, None),
        (9.0, 9.0, None),
        (9.3, 9.0, None),
        (12.0, 9.0, "1.3x slower than fp32"),
        (5.0, None, None),
    ],
)
def test_int8_slower_than_float_is_told(int8_ms: float, fp32_ms: float | None, words: str | None) -> None:
    """Beyond what no two runs agree on; an objection to taking either does not hide it."""
    entrants = [
        msgspec.structs.replace(measured("int8", int8_ms), objection="below its floor"),
        measured("fp32", fp32_ms),
        measured("int8", 1.0, delegate=False),
    ]
    told = slower_int8(entrants[0], entrants)
    assert told is None if words is None else words in told


def test_int8_that_is_slow_on_a_backend_that_is_not_taken_is_no_warning() -> None:
    """tflite-runtime never delegates INT8: nothing to do about it where LiteRT runs."""
    old = [measured("int8", 70.0, backend="tflite-runtime"), measured("fp32", 16.0, backend="tflite-runtime")]
    best = measured("int8", 7.0)
    assert slower_int8(best, [best, measured("fp32", 9.0), *old]) is None
    assert "4.4x slower" in (slower_int8(old[1], old) or "")


def test_a_factor_needs_two_figures() -> None:
    """None without."""
    assert factor(measured("int8", 4.0), measured("int8", 2.0)) == 0.5
    assert factor(measured("int8", None), measured("int8", 2.0)) is None
    assert factor(measured("int8", 4.0), measured("int8", None)) is None


def test_a_tuning_is_json_and_back(tuning: Tuning) -> None:
    """What is written is what is read."""
    assert msgspec.json.decode(msgspec.json.encode(tuning), type=Tuning) == tuning
