"""What the store knows, and what becomes of it: pure. `None` for a model is the factory one, which never leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from agent.errors import BadData, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

MOST_ATTEMPTS = 3
"""Starts that a pending model gets to show that it works."""
MOST_QUARANTINED = 100
"""The oldest give way."""
Standing = Literal["factory", "pending", "committed"]


class StoreState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What runs, what runs after a rollback, and what may not run.

    Models go by the sha256 of their model.toml. `pending`: `current` has yet to show that it works, and has been
    loaded `attempts` times. `quarantine` has why each model in it failed. `ratchet` has, by the name of the key
    that signed ("" for unsigned) and by the model's name, the highest version that ever ran.
    """

    schema: int = 1
    current: str | None = None
    previous: str | None = None
    pending: bool = False
    attempts: int = 0
    quarantine: dict[str, str] = {}
    ratchet: dict[str, dict[str, int]] = {}

    @property
    def standing(self) -> Standing:
        """How the model that runs stands."""
        if self.current is None:
            return "factory"
        return "pending" if self.pending else "committed"

    @property
    def kept(self) -> frozenset[str]:
        """The models that must not be removed."""
        return frozenset(filter(None, (self.current, self.previous)))


class Candidate(msgspec.Struct, frozen=True):
    """A model that wants in: its sha, the name of the key that signed it ("": none), its name and version."""

    sha: str
    key: str
    name: str
    version: int


def admit(state: StoreState, new: Candidate) -> None:
    """Raise BadData for a model that failed here, or is older than what its signer has had running here."""
    if (why := state.quarantine.get(new.sha)) is not None:
        fix = "install another version; --again tries this one once more"
        raise BadData(f"{new.name} {new.version} is in quarantine", seen=why, fix=fix)
    highest = state.ratchet.get(new.key, {}).get(new.name, 0)
    if new.version < highest and new.sha != state.current:
        fix = f"version {highest} has been here: give it a higher number; `model rollback` goes back"
        raise BadData(f"{new.name} is older than what was installed", seen=f"version {new.version}", fix=fix)


def installed(state: StoreState, new: Candidate) -> StoreState:
    """Return `state` with the admitted model `new` pending; what was committed before is what a rollback gives."""
    of_key = state.ratchet.get(new.key, {})
    raised = {**of_key, new.name: max(new.version, of_key.get(new.name, 0))}
    state = msgspec.structs.replace(state, ratchet={**state.ratchet, new.key: raised})
    if new.sha == state.current:
        return state
    previous = state.previous if state.pending else state.current
    return msgspec.structs.replace(
        state,
        current=new.sha,
        previous=None if previous == new.sha else previous,
        pending=True,
        attempts=0,
    )


def begun(state: StoreState) -> StoreState:
    """Return `state` when the current model is about to be loaded: one attempt more, or one too many."""
    if not state.pending or state.current is None:
        return state
    if state.attempts >= MOST_ATTEMPTS:
        return failed(state, state.current, f"{state.attempts} starts, and it never got to work for good")
    return msgspec.structs.replace(state, attempts=state.attempts + 1)


def released(state: StoreState, sha: str) -> StoreState:
    """Return `state` when the agent has ended in order with the model `sha`: the attempt tells nothing of it."""
    if sha != state.current or not state.pending:
        return state
    return msgspec.structs.replace(state, attempts=max(0, state.attempts - 1))


def committed(state: StoreState, sha: str) -> StoreState:
    """Return `state` when the model `sha` has shown that it works; one that does not run any more changes nothing."""
    if sha != state.current or not state.pending:
        return state
    return msgspec.structs.replace(state, pending=False, attempts=0)


def failed(state: StoreState, sha: str, why: str) -> StoreState:
    """Return `state` with `sha` in quarantine, and what was before it running, if it ran."""
    known = [(each, its) for each, its in state.quarantine.items() if each != sha]
    quarantine = dict([*known, (sha, why)][-MOST_QUARANTINED:])
    return _without(msgspec.structs.replace(state, quarantine=quarantine), {sha})


def left(state: StoreState, sha: str) -> StoreState:
    """Return `state` when the model `sha` is to run no more; it is not put into quarantine."""
    return _without(state, {sha})


def rolled_back(state: StoreState) -> StoreState:
    """Return `state` with the model before the current one running. Raises UsageError where the factory's runs."""
    if state.current is None:
        fix = "the factory model runs; `model install` brings another"
        raise UsageError("there is no model to go back from", fix=fix)
    return _without(state, {state.current})


def pardoned(state: StoreState, sha: str) -> StoreState:
    """Return `state` with `sha` out of quarantine."""
    rest = {each: why for each, why in state.quarantine.items() if each != sha}
    return msgspec.structs.replace(state, quarantine=rest)


def present(state: StoreState, there: Collection[str]) -> StoreState:
    """Return `state` without the models that are not `there`, files that somebody or something has removed."""
    return _without(state, {sha for sha in state.kept if sha not in there})


def _without(state: StoreState, gone: set[str]) -> StoreState:
    """Return `state` in which none of `gone` runs now or after a rollback."""
    previous = None if state.previous in gone else state.previous
    if state.current not in gone:
        return msgspec.structs.replace(state, previous=previous)
    return msgspec.structs.replace(state, current=previous, previous=None, pending=False, attempts=0)
