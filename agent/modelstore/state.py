"""What the store knows, and what becomes of it: pure. `None` for a model is the factory one, which never leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from agent.errors import BadData, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

MOST_ATTEMPTS = 3
"""Starts that a model gets to show that it works."""
MOST_QUARANTINED = 100
"""The oldest give way."""
Standing = Literal["factory", "pending", "committed"]


class StoreState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What runs, what runs after a rollback, and what may not run.

    Models go by the sha256 of their model.toml. `pending`: `current` has never shown that it works. `proven` has
    the runtime on which a model last did. One that has not on `runtime`, that of the last start, has been loaded
    `attempts` times there. `quarantine` has why each model in it failed; `unfit` why models that have worked do not
    on `runtime`. `shelved` was current and previous before that was found out: on another runtime they are again.
    `ratchet` has, by the name of the key that signed ("" for unsigned) and by the model's name, the highest version
    that ever ran.
    """

    schema: int = 1
    current: str | None = None
    previous: str | None = None
    pending: bool = False
    attempts: int = 0
    runtime: str = ""
    proven: dict[str, str] = {}
    quarantine: dict[str, str] = {}
    unfit: dict[str, str] = {}
    shelved: tuple[str | None, str | None] | None = None
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
        return frozenset(filter(None, (self.current, self.previous, *(self.shelved or ()))))

    def on_trial(self, runtime: str) -> bool:
        """Whether the model that runs has yet to show that it works on `runtime`."""
        if self.current is None:
            return False
        return self.pending or self.proven.get(self.current) != runtime

    def why(self, sha: str | None) -> str:
        """Return why the model `sha` may not run, "" if it may."""
        return self.quarantine.get(sha or "") or self.unfit.get(sha or "", "")


class Candidate(msgspec.Struct, frozen=True):
    """A model that wants in: its sha, the name of the key that signed it ("": none), its name and version."""

    sha: str
    key: str
    name: str
    version: int


def admit(state: StoreState, new: Candidate) -> None:
    """Raise BadData for a model that failed here, or is older than what its signer has had running here."""
    if why := state.why(new.sha):
        fix = "install another version; --again tries this one once more"
        here = " on this runtime" if new.sha in state.unfit else ""
        raise BadData(f"{new.name} {new.version} is in quarantine{here}", seen=why, fix=fix)
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
        shelved=None,
    )


def moved(state: StoreState, runtime: str) -> StoreState:
    """Return `state` on `runtime`: what was found out of models on another one does not count there."""
    if runtime == state.runtime or not (state.kept or state.unfit):
        return state
    current, previous = state.shelved or (state.current, state.previous)
    return msgspec.structs.replace(
        state, runtime=runtime, current=current, previous=previous, attempts=0, unfit={}, shelved=None
    )


def begun(state: StoreState, runtime: str) -> StoreState:
    """Return `state` when the current model is about to be loaded on `runtime`: one attempt more, or one too many.

    One that has shown there that it works needs none.
    """
    state = moved(state, runtime)
    if state.current is None or not state.on_trial(runtime):
        return state
    if state.attempts >= MOST_ATTEMPTS:
        why = f"{state.attempts} starts, and it never got to work for good"
        return begun(failed(state, state.current, f"{why} on {runtime}"), runtime)
    return msgspec.structs.replace(state, attempts=state.attempts + 1)


def released(state: StoreState, sha: str) -> StoreState:
    """Return `state` when the agent has ended in order with the model `sha`: the attempt tells nothing of it."""
    if sha != state.current:
        return state
    return msgspec.structs.replace(state, attempts=max(0, state.attempts - 1))


def committed(state: StoreState, sha: str, runtime: str) -> StoreState:
    """Return `state` when the model `sha` has shown that it works on `runtime`.

    One that does not run any more changes nothing.
    """
    if sha != state.current:
        return state
    proven = {each: on for each, on in state.proven.items() if each in state.kept} | {sha: runtime}
    return msgspec.structs.replace(state, pending=False, attempts=0, proven=proven)


def failed(state: StoreState, sha: str, why: str) -> StoreState:
    """Return `state` with `sha` in quarantine, and what was before it running, if it ran.

    One that has worked here is not bad: it is unfit for the runtime.
    """
    if sha in {state.current, state.previous} and not (state.pending and sha == state.current):
        return msgspec.structs.replace(
            _without(state, {sha}),
            unfit={**state.unfit, sha: why},
            shelved=state.shelved or (state.current, state.previous),
        )
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
    return msgspec.structs.replace(_without(state, {state.current}), shelved=None)


def pardoned(state: StoreState, sha: str) -> StoreState:
    """Return `state` with `sha` out of quarantine."""
    rest, unfit = (
        {each: why for each, why in known.items() if each != sha} for known in (state.quarantine, state.unfit)
    )
    return msgspec.structs.replace(state, quarantine=rest, unfit=unfit)


def present(state: StoreState, there: Collection[str]) -> StoreState:
    """Return `state` without the models that are not `there`, files that somebody or something has removed."""
    return _without(state, {sha for sha in state.kept if sha not in there})


def _without(state: StoreState, gone: set[str]) -> StoreState:
    """Return `state` in which none of `gone` runs now or after a rollback."""
    previous = None if state.previous in gone else state.previous
    if state.shelved:
        first, second = (None if each in gone else each for each in state.shelved)
        shelved = (first, second) if first else (second, None)
        state = msgspec.structs.replace(state, shelved=shelved if any(shelved) else None)
    if state.current not in gone:
        return msgspec.structs.replace(state, previous=previous)
    return msgspec.structs.replace(state, current=previous, previous=None, pending=False, attempts=0)
