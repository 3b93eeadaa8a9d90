"""The states of the store: every state with every event."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.errors import BadData, UsageError
from agent.modelstore.state import (
    MOST_ATTEMPTS,
    MOST_QUARANTINED,
    Candidate,
    StoreState,
    admit,
    begun,
    committed,
    failed,
    installed,
    left,
    moved,
    pardoned,
    present,
    released,
    rolled_back,
)

if TYPE_CHECKING:
    from collections.abc import Callable

A, B, C = "a" * 64, "b" * 64, "c" * 64
NEW = Candidate(C, "", "street", 3)
LAST = MOST_ATTEMPTS

HERE, THERE = "this runtime", "another one"
BOTH = {A: HERE, B: HERE}

STATES = {
    "factory": StoreState(),
    "first pending": StoreState(current=A, pending=True),
    "first at its last attempt": StoreState(current=A, pending=True, attempts=LAST, runtime=HERE),
    "first committed": StoreState(current=A, runtime=HERE, proven=BOTH),
    "first at its last attempt elsewhere": StoreState(current=A, attempts=LAST, runtime=HERE),
    "second pending": StoreState(
        current=B, previous=A, pending=True, attempts=1, runtime=HERE, proven={A: HERE}
    ),
    "second at its last attempt": StoreState(
        current=B, previous=A, pending=True, attempts=LAST, runtime=HERE, proven={A: HERE}
    ),
    "second committed": StoreState(current=B, previous=A, runtime=HERE, proven=BOTH),
    "second elsewhere": StoreState(current=B, previous=A, attempts=1, runtime=HERE, proven={B: THERE}),
    "second at its last attempt elsewhere": StoreState(
        current=B, previous=A, attempts=LAST, runtime=HERE, proven={A: THERE, B: THERE}
    ),
}
EVENTS: dict[str, Callable[[StoreState], StoreState]] = {
    "install": lambda state: installed(state, NEW),
    "begin": lambda state: begun(state, HERE),
    "commit": lambda state: committed(state, state.current or A, HERE),
    "release": lambda state: released(state, state.current or A),
    "fail": lambda state: failed(state, state.current or A, "bad"),
    "leave": lambda state: left(state, state.current or A),
    "roll back": rolled_back,
}
# current, previous, pending, attempts
EXPECTED: dict[tuple[str, str], tuple[str | None, str | None, bool, int] | type[Exception]] = {
    ("factory", "install"): (C, None, True, 0),
    ("factory", "begin"): (None, None, False, 0),
    ("factory", "commit"): (None, None, False, 0),
    ("factory", "release"): (None, None, False, 0),
    ("factory", "fail"): (None, None, False, 0),
    ("factory", "leave"): (None, None, False, 0),
    ("factory", "roll back"): UsageError,
    ("first pending", "install"): (C, None, True, 0),
    ("first pending", "begin"): (A, None, True, 1),
    ("first pending", "commit"): (A, None, False, 0),
    ("first pending", "release"): (A, None, True, 0),
    ("first pending", "fail"): (None, None, False, 0),
    ("first pending", "leave"): (None, None, False, 0),
    ("first pending", "roll back"): (None, None, False, 0),
    ("first at its last attempt", "install"): (C, None, True, 0),
    ("first at its last attempt", "begin"): (None, None, False, 0),
    ("first at its last attempt", "commit"): (A, None, False, 0),
    ("first at its last attempt", "release"): (A, None, True, LAST - 1),
    ("first at its last attempt", "fail"): (None, None, False, 0),
    ("first at its last attempt", "leave"): (None, None, False, 0),
    ("first at its last attempt", "roll back"): (None, None, False, 0),
    ("first committed", "install"): (C, A, True, 0),
    ("first committed", "begin"): (A, None, False, 0),
    ("first committed", "commit"): (A, None, False, 0),
    ("first committed", "release"): (A, None, False, 0),
    ("first committed", "fail"): (None, None, False, 0),
    ("first committed", "leave"): (None, None, False, 0),
    ("first committed", "roll back"): (None, None, False, 0),
    ("second pending", "install"): (C, A, True, 0),
    ("second pending", "begin"): (B, A, True, 2),
    ("second pending", "commit"): (B, A, False, 0),
    ("second pending", "release"): (B, A, True, 0),
    ("second pending", "fail"): (A, None, False, 0),
    ("second pending", "leave"): (A, None, False, 0),
    ("second pending", "roll back"): (A, None, False, 0),
    ("second at its last attempt", "install"): (C, A, True, 0),
    ("second at its last attempt", "begin"): (A, None, False, 0),
    ("second at its last attempt", "commit"): (B, A, False, 0),
    ("second at its last attempt", "release"): (B, A, True, LAST - 1),
    ("second at its last attempt", "fail"): (A, None, False, 0),
    ("second at its last attempt", "leave"): (A, None, False, 0),
    ("second at its last attempt", "roll back"): (A, None, False, 0),
    ("second committed", "install"): (C, B, True, 0),
    ("second committed", "begin"): (B, A, False, 0),
    ("second committed", "commit"): (B, A, False, 0),
    ("second committed", "release"): (B, A, False, 0),
    ("second committed", "fail"): (A, None, False, 0),
    ("second committed", "leave"): (A, None, False, 0),
    ("second committed", "roll back"): (A, None, False, 0),
    ("first at its last attempt elsewhere", "install"): (C, A, True, 0),
    ("first at its last attempt elsewhere", "begin"): (None, None, False, 0),
    ("first at its last attempt elsewhere", "commit"): (A, None, False, 0),
    ("first at its last attempt elsewhere", "release"): (A, None, False, LAST - 1),
    ("first at its last attempt elsewhere", "fail"): (None, None, False, 0),
    ("first at its last attempt elsewhere", "leave"): (None, None, False, 0),
    ("first at its last attempt elsewhere", "roll back"): (None, None, False, 0),
    ("second elsewhere", "install"): (C, B, True, 0),
    ("second elsewhere", "begin"): (B, A, False, 2),
    ("second elsewhere", "commit"): (B, A, False, 0),
    ("second elsewhere", "release"): (B, A, False, 0),
    ("second elsewhere", "fail"): (A, None, False, 0),
    ("second elsewhere", "leave"): (A, None, False, 0),
    ("second elsewhere", "roll back"): (A, None, False, 0),
    ("second at its last attempt elsewhere", "install"): (C, B, True, 0),
    ("second at its last attempt elsewhere", "begin"): (A, None, False, 1),
    ("second at its last attempt elsewhere", "commit"): (B, A, False, 0),
    ("second at its last attempt elsewhere", "release"): (B, A, False, LAST - 1),
    ("second at its last attempt elsewhere", "fail"): (A, None, False, 0),
    ("second at its last attempt elsewhere", "leave"): (A, None, False, 0),
    ("second at its last attempt elsewhere", "roll back"): (A, None, False, 0),
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_every_state_with_every_event(state: str, event: str) -> None:
    """Each leads where the table says."""
    expected = EXPECTED[state, event]
    if isinstance(expected, type):
        with pytest.raises(expected):
            EVENTS[event](STATES[state])
        return
    after = EVENTS[event](STATES[state])
    assert (after.current, after.previous, after.pending, after.attempts) == expected


def test_how_the_model_stands_is_told() -> None:
    """The factory's, pending or committed."""
    assert STATES["factory"].standing == "factory"
    assert STATES["second pending"].standing == "pending"
    assert STATES["second committed"].standing == "committed"


def test_what_is_left_may_come_in_again() -> None:
    """The device may have been at fault: it is not in quarantine. One that does not run is not gone back from."""
    admit(left(StoreState(current=C, previous=A, pending=True), C), NEW)
    assert left(STATES["second committed"], C) == STATES["second committed"]


def test_what_fails_is_in_quarantine_until_it_is_pardoned() -> None:
    """By hand, at work, and after too many starts; a pardoned one may come in again."""
    for state in (
        failed(StoreState(current=C), C, "bad"),
        begun(StoreState(current=C, pending=True, attempts=LAST, runtime=HERE), HERE),
    ):
        with pytest.raises(BadData, match="quarantine"):
            admit(state, NEW)
        admit(pardoned(state, C), NEW)


def test_the_quarantine_is_bounded() -> None:
    """The oldest give way."""
    state = StoreState()
    for number in range(MOST_QUARANTINED + 5):
        state = failed(state, str(number), "bad")
    assert list(state.quarantine) == [str(number) for number in range(5, MOST_QUARANTINED + 5)]


def test_one_that_failed_is_no_way_back() -> None:
    """A previous model in quarantine makes way for the factory's."""
    assert failed(STATES["second committed"], A, "bad").previous is None


def test_an_old_report_of_another_model_changes_nothing() -> None:
    """A commit or an end that was meant for a model that has gone meanwhile."""
    state = STATES["second pending"]
    assert committed(state, A, HERE) == released(state, A) == state


def test_a_runtime_s_fault_is_not_the_model_s() -> None:
    """Neither of two that worked does on a new runtime: the factory's runs there, and back on the old one both do."""
    both = STATES["second committed"]
    state = begun(both, THERE)
    assert (state.current, state.attempts) == (B, 1)
    for _ in range(2 * LAST):
        state = begun(state, THERE)
    assert (state.current, state.quarantine, set(state.unfit)) == (None, {}, {A, B})
    assert state.kept == {A, B}, "they may run again"
    with pytest.raises(BadData, match="quarantine on this runtime"):
        admit(state, Candidate(B, "", "street", 3))
    admit(pardoned(state, B), Candidate(B, "", "street", 3))
    back = begun(state, HERE)
    assert (back.current, back.previous, back.unfit, back.shelved) == (B, A, {}, None)
    admit(back, Candidate(A, "", "street", 3))


def test_attempts_on_another_runtime_do_not_count() -> None:
    """Two power cuts there, then another kernel: it has three starts again; where it worked before it needs none."""
    state = begun(begun(STATES["second committed"], THERE), THERE)
    assert state.attempts == 2
    assert begun(state, "a third one").attempts == 1
    assert begun(state, HERE) == STATES["second committed"]
    proven = committed(state, B, THERE)
    assert begun(proven, THERE) == proven


def test_what_was_chosen_since_is_not_undone_by_another_runtime() -> None:
    """A model installed, or gone back from, while others were unfit."""
    unfit = failed(STATES["second committed"], B, "crash")
    assert moved(installed(unfit, NEW), THERE).current == C
    assert moved(rolled_back(unfit), THERE).current is None
    assert moved(present(unfit, {A}), THERE).current == A


def test_the_ratchet_holds_per_key_and_name() -> None:
    """An older version of the same key and name is refused; equal ones, other names and other keys are not."""
    state = installed(StoreState(), Candidate(A, "K1", "street", 7))
    with pytest.raises(BadData, match="older"):
        admit(state, Candidate(B, "K1", "street", 6))
    for other in (("K1", "street", 7), ("K1", "yard", 1), ("K2", "street", 1), ("", "street", 1)):
        admit(state, Candidate(B, *other))
    assert rolled_back(state).ratchet == failed(state, A, "bad").ratchet == {"K1": {"street": 7}}
    admit(state, Candidate(A, "K1", "street", 6))  # it runs already


def test_files_that_are_gone_are_not_run() -> None:
    """The one before takes over, or the factory's."""
    both = STATES["second committed"]
    assert present(both, {A, B}) == both
    assert (present(both, {A}).current, present(both, {A}).previous) == (A, None)
    assert (present(both, {B}).current, present(both, {B}).previous) == (B, None)
    assert present(both, ()).standing == "factory"
