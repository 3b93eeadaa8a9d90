"""The throttle: down before the device is slowed, up again when it is well, and never to and fro."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.hardware import ThermalZone, Throttling, read_throttling
from agent.throttle import COOL_C, FACTORS, LASTING_S, LOWER_S, MAX_RAISE_S, NEAR_C, RAISE_S, Budget, Throttle
from tests.unit.hardware.boards import TREES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

LIMIT_C = 80.0


def at(temperature_c: float, **more: object) -> Throttling:
    """Return a look at a device that is slowed from 80 C on."""
    return Throttling(zones=(ThermalZone("cpu-thermal", temperature_c, LIMIT_C),), **more)


def changes(readings: Iterable[Throttling], throttle: Throttle | None = None) -> list[tuple[int, float]]:
    """Return when the budget changed and to what, given a reading a second."""
    throttle = throttle or Throttle()
    found, before = [], throttle.budget
    for second, reading in enumerate(readings):
        budget = throttle.step(reading, float(second))
        if budget.factor != before.factor:
            found.append((second, budget.factor))
        before = budget
    return found


def most_in(times: list[int], window_s: float) -> int:
    """Return the most of `times` that any window holds."""
    return max((sum(t <= u < t + window_s for u in times) for t in times), default=0)


def test_a_cool_device_has_all_of_its_rate() -> None:
    """Nothing is held back, and there is no reason to tell; without any reading too."""
    assert changes([at(60.0)] * 1000) == []
    assert changes([Throttling()] * 1000) == []
    assert Throttle().budget == Budget(1.0, "")


def test_heat_lowers_the_budget_before_the_limit() -> None:
    """A device that warms by a degree in 10 s is at a quarter of its rate soon after it has come near the limit."""
    warming = [at(min(60.0 + second / 10, 79.9)) for second in range(300)]
    near_s = 10 * (LIMIT_C - NEAR_C - 60.0)
    told = changes(warming)
    assert [factor for _, factor in told] == list(FACTORS[1:])
    assert [second for second, _ in told] == pytest.approx([near_s + LOWER_S * k for k in range(4)], abs=1.5)


def test_the_reason_names_what_was_seen_and_what_it_costs() -> None:
    """One line, which stays the same until the budget changes: health is not told anew for a tenth of a degree."""
    throttle = Throttle()
    assert throttle.step(at(82.06), 0.0).reason == (
        "too hot (cpu-thermal 82.1 C, slowed from 80 C): 70 % of the rate"
    )
    assert throttle.step(at(82.9), 1.0) is throttle.budget
    assert throttle.step(at(83.3), 10.0).reason == (
        "too hot (cpu-thermal 83.3 C, slowed from 80 C): half the rate"
    )
    throttle = Throttle()
    assert throttle.step(at(50.0, under_voltage=True), 0.0).reason == (
        "under-voltage, use a stronger power supply: 70 % of the rate"
    )
    throttle = Throttle()
    assert throttle.step(at(50.0, slowed=("frequency capped", "throttled")), 0.0).reason == (
        "slowed down (frequency capped, throttled): 70 % of the rate"
    )


def test_a_device_that_cooled_has_its_rate_back_step_by_step() -> None:
    """A minute of coolness for each step."""
    told = changes([at(85.0)] * 100 + [at(60.0)] * 400)
    assert [factor for _, factor in told] == [0.7, 0.5, 0.35, 0.25, 0.35, 0.5, 0.7, 1.0]
    assert [second - 100 for second, _ in told[4:]] == [60, 120, 180, 240]


def test_between_near_and_cool_little_changes() -> None:
    """The hysteresis: a wobble between the thresholds takes nothing, and in 10 minutes gives back what was taken."""
    wobble = [at(LIMIT_C - (NEAR_C if second % 2 else COOL_C - 0.1)) for second in range(5000)]
    assert changes(wobble) == []
    assert changes([at(85.0), *wobble]) == [(0, 0.7), (1 + LASTING_S, 1.0)]


def test_a_device_that_is_never_cool_recovers() -> None:
    """Steady 73 C is not too hot: what under-voltage took for 25 s comes back, a step every 10 minutes."""
    told = changes([at(73.0, under_voltage=True)] * 25 + [at(73.0)] * 3600)
    assert [factor for _, factor in told] == [0.7, 0.5, 0.35, 0.5, 0.7, 1.0]
    assert [second - 25 for second, _ in told[3:]] == [LASTING_S, 2 * LASTING_S, 3 * LASTING_S]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=50), st.sampled_from([NEAR_C, COOL_C, 0.0]))
def test_a_wobble_around_any_threshold_is_answered_a_few_times(wobble: list[float], below_c: float) -> None:
    """Whatever the sensor's noise, no hour has more than the four steps down, and they are never undone."""
    noise = [at(LIMIT_C - below_c + wobble[second % len(wobble)]) for second in range(3600)]
    assert len(changes(noise)) <= 4


READINGS = st.builds(
    at,
    st.floats(20.0, 110.0),
    under_voltage=st.booleans(),
    slowed=st.sampled_from([(), ("throttled",)]),
)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(READINGS, st.integers(1, 700)), min_size=1, max_size=60))
def test_no_readings_make_many_changes(phases: list[tuple[Throttling, int]]) -> None:
    """Any readings for any times: at most 50 changes in any hour, one step at a time, 10 s between steps down."""
    told = changes(reading for reading, seconds in phases for _ in range(seconds))
    assert most_in([second for second, _ in told], 3600) <= 50
    steps = [FACTORS.index(factor) for _, factor in [(0, 1.0), *told]]
    assert all(abs(b - a) == 1 for a, b in pairwise(steps))
    down = [second for (second, factor), before in zip(told, steps, strict=False) if FACTORS[before] > factor]
    assert all(b - a >= LOWER_S for a, b in pairwise(down))


@pytest.mark.parametrize("lasts_s", [0, 599, 600, 601])
def test_a_device_that_plays_against_the_throttle_makes_few_changes(lasts_s: int) -> None:
    """The worst there is: cool until all is given back and for a while more, then hot until all is taken again."""
    throttle, told, full_s = Throttle(), [], 0
    hot = True
    for second in range(4 * 3600):
        before = throttle.budget.factor
        after = throttle.step(at(85.0 if hot else 20.0), float(second)).factor
        if after != before:
            told.append(second)
        if after == FACTORS[-1]:
            hot = False
        elif after == 1.0 and not hot:
            full_s += 1
            if full_s > lasts_s:
                hot, full_s = True, 0
    assert most_in(told, 3600) <= 50


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(READINGS, st.integers(1, 700)), max_size=60))
def test_it_always_recovers(phases: list[tuple[Throttling, int]]) -> None:
    """Whatever has been, the whole rate is back after four times the longest wait of coolness."""
    throttle = Throttle()
    changes((reading for reading, seconds in phases for _ in range(seconds)), throttle)
    start_s = sum(seconds for _, seconds in phases)
    for second in range(int(4 * MAX_RAISE_S) + 2):
        throttle.step(at(40.0), float(start_s + second))
    assert throttle.budget == Budget(1.0, "")


def heated(ambient_c: float, load_c: float) -> Callable[[float], float]:
    """Return a device: with a share of the rate for a second, its temperature; 60 s to follow."""
    temperature_c = ambient_c

    def second(share: float) -> float:
        nonlocal temperature_c
        temperature_c += (ambient_c + load_c * share - temperature_c) / 60.0
        return temperature_c

    return second


@pytest.mark.parametrize(
    ("ambient_c", "load_c"), [(30, 60), (45, 40), (45, 80), (60, 30), (20, 58), (35, 44)]
)
def test_a_device_in_the_loop_finds_its_rate(ambient_c: float, load_c: float) -> None:
    """A device that the budget itself heats and cools is not slowed; at most it tries more each quarter of an hour."""
    throttle, device, told = Throttle(), heated(ambient_c, load_c), []
    slowed_s = 0
    for second in range(4 * 3600):
        before = throttle.budget.factor
        temperature_c = device(before)
        slowed_s += temperature_c >= LIMIT_C
        if throttle.step(at(temperature_c), float(second)).factor != before:
            told.append(second)
    assert most_in([second for second in told if second > 2 * 3600], 3600) <= 8
    assert slowed_s < 30


def test_time_that_goes_back_stands_still() -> None:
    """A step back of the clock makes no step of the budget."""
    throttle = Throttle()
    throttle.step(at(85.0), 1000.0)
    assert throttle.step(at(85.0), 0.0).factor == 0.7
    assert throttle.step(at(85.0), 1009.0).factor == 0.7
    assert throttle.step(at(85.0), 1010.0).factor == 0.5


def test_a_pi_in_a_closed_box(tmp_path: Path) -> None:
    """A Pi's files change as it heats up, is throttled, is under-voltage, cools: the budget follows them."""
    root = TREES["pi-4"].build(tmp_path)
    temp = root / "sys/class/thermal/thermal_zone0/temp"
    alarm = root / "sys/class/hwmon/hwmon1/in0_lcrit_alarm"
    throttle, seconds = Throttle(), iter(range(100000))

    def run(seconds_n: int) -> Budget:
        for _ in range(seconds_n):
            throttle.step(read_throttling(root), float(next(seconds)))
        return throttle.budget

    assert run(5).factor == 1.0
    temp.write_text("77500\n")
    assert run(1).reason == "too hot (cpu-thermal 77.5 C, slowed from 80 C): 70 % of the rate"
    temp.write_text("74000\n")
    assert run(200).factor == 0.7
    temp.write_text("71900\n")
    assert run(int(RAISE_S) + 1).factor == 1.0
    alarm.write_text("1\n")
    assert run(1).reason == "under-voltage, use a stronger power supply: 70 % of the rate"
    temp.unlink()
    alarm.unlink()
    assert run(int(2 * RAISE_S) + 1).factor == 1.0
