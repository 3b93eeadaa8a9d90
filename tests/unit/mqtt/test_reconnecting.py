"""How often a broker is tried, on a clock of the test's."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.mqtt.options import MqttOptions
from agent.mqtt.reconnecting import Reconnecting

if TYPE_CHECKING:
    from collections.abc import Callable


def tries(seed: int, duration_s: float, attempt: Callable[[Reconnecting, float], float]) -> list[float]:
    """Return when a broker is tried in `duration_s`; `attempt` fails in its way and returns the wait."""
    again, now_s, begun_s = Reconnecting(MqttOptions("b"), rng=random.Random(seed)), 0.0, []
    while now_s < duration_s:
        begun_s.append(now_s)
        now_s += attempt(again, now_s)
    return begun_s


def dropped_at_puback(again: Reconnecting, now_s: float) -> float:
    """Accept, take one message, drop."""
    again.stands(now_s)
    again.confirmed()
    return again.lost(now_s + 0.1) + 0.1


@given(seed=st.integers())
def test_dropped_at_every_puback_it_is_tried_every_half_minute_at_most(seed: int) -> None:
    """Waits grow although each connection is accepted: in the steady state two tries are 30 s apart, or more."""
    begun_s = tries(seed, 3600, dropped_at_puback)
    gaps_s = [after - before for before, after in pairwise(begun_s)]
    assert min(gaps_s[6:]) >= 30
    assert max(gaps_s) <= 60.1
    assert all(gap_s <= 2**n + 0.2 for n, gap_s in enumerate(gaps_s[:6]))


@given(seed=st.integers())
def test_a_refused_login_is_tried_twelve_times_in_ten_minutes_at_most(seed: int) -> None:
    """And it is tried: the password may have been mended at the broker."""
    begun_s = tries(seed, 3600, lambda again, now_s: again.lost(now_s, login_refused=True))
    windows = [sum(start <= at < start + 600 for at in begun_s) for start in begun_s]
    assert max(windows) <= 12
    assert len(begun_s) > 25


@pytest.mark.parametrize(("messages", "lasted_s"), [(64, 1.0), (0, 61.0)])
def test_a_connection_that_was_worth_it_begins_anew(messages: int, lasted_s: float) -> None:
    """A minute, or a whole window of messages: the next try comes soon, a fleet's spread over seconds."""
    again = Reconnecting(MqttOptions("b"), rng=random.Random(1))
    for _ in range(10):
        again.lost(0.0)
    waits_s = []
    for _ in range(100):
        again.stands(0.0)
        for _ in range(messages):
            again.confirmed()
        waits_s.append(again.lost(lasted_s))
    assert 0.5 <= min(waits_s) < 1.5
    assert 4.0 < max(waits_s) <= 5.0
    assert again.lost(lasted_s) <= 1.0


def test_a_contested_connection_is_no_success() -> None:
    """Two clients that take it from each other rest, however long each had it; short ones in a row look like it."""
    again = Reconnecting(MqttOptions("b"), rng=random.Random(1))
    for _ in range(10):
        again.lost(0.0)
    again.stands(0.0)
    assert again.lost(600.0, contested=True) >= 30
    for _ in range(2):
        again.stands(0.0)
        assert not again.looks_shared(1.0)
        again.lost(1.0)
    again.stands(0.0)
    assert again.looks_shared(1.0)
    assert not again.looks_shared(61.0)


def test_a_connection_that_ended_at_a_denial_is_no_sign_of_another_client() -> None:
    """The row of short ones begins anew behind it."""
    again = Reconnecting(MqttOptions("b"), rng=random.Random(1))
    for denied in (False, True, False):
        again.stands(0.0)
        if denied:
            again.denied()
        again.lost(1.0)
    again.stands(0.0)
    assert not again.looks_shared(1.0)
    again.lost(1.0)
    again.stands(0.0)
    assert again.looks_shared(1.0)


def test_after_a_short_connection_one_message_at_a_time_until_one_is_confirmed() -> None:
    """What is sent behind a message that is denied would reset the connection before the denial is read."""
    again = Reconnecting(MqttOptions("b"), rng=random.Random(1))
    again.stands(0.0)
    assert not again.careful
    again.lost(0.5)
    again.stands(1.0)
    assert again.careful
    again.confirmed()
    assert not again.careful
    again.lost(100.0)
    again.stands(101.0)
    assert not again.careful
