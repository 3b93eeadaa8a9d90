"""The default model at work: what the model store says is to run, and what runs instead when that is no good."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from agent.errors import (
    AgentError,
    BadConfig,
    BadData,
    CannotCreate,
    InputMissing,
    NotPermitted,
    TryAgain,
)
from agent.modelstore.trial import Limits, runtime
from agent.probation import limit_of
from agent.starter import starter_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.modelstore import ModelStore
    from agent.modelstore.question import Figures
    from agent.modelstore.trial import TrialResult

log = logging.getLogger(__name__)

Opened = TypeVar("Opened")
_ANY_MS = 1e9
"""A model that has been committed is not asked again how fast it is: somebody may have allowed it to be slow."""
_ITS_OWN = (BadData, InputMissing, NotPermitted)
"""Faults of a committed model that another start would meet again."""


@dataclass(frozen=True, slots=True)
class Running:
    """The default model at work: the sha of its bundle, "" for the factory's; `limit_ms`: p95 that is too slow.

    One that is `on_trial` has yet to show that it works on this runtime.
    """

    sha: str = ""
    state: Literal["factory", "pending", "committed"] = "factory"
    limit_ms: float | None = None
    on_trial: bool = False


class DefaultModel:
    """What runs where no model is named, by the `store`. `given_up` tells why another model does not, "" of none.

    `fault` is why, where it could not be opened.
    """

    def __init__(self, store: ModelStore, *, threads: int | None = None) -> None:
        self._store, self._threads = store, threads
        self.running = Running()
        self.doing = self.given_up = self._gone = self._begun = ""
        self.fault: Exception | None = None

    def open(self, load: Callable[[Path], Opened]) -> Opened:
        """Return what `load` gives for the bundle that is to run: a bad one makes way for the one before, at once.

        Of a committed one only what is wrong with it counts against it. Raises AgentError.
        """
        self.leave()  # what was opened before was closed in order, with the last camera that it was for
        if (opened := self._loaded(load)) is None:
            raise AssertionError("without a model at work there is always one to load")
        return opened

    def follow(self, load: Callable[[Path], object]) -> None:
        """Have `load` take the bundle that is to run to work, as `open` does, unless it is there already."""
        self._loaded(load, at_work=self.running.sha)

    def forget(self) -> None:
        """Forget what was given up: somebody has seen it, and asks for what the store says now."""
        self.given_up = self._gone = ""

    @property
    def must_leave(self) -> bool:
        """Whether the model at work is the one that was given up."""
        return bool(self._gone) and self.running.sha == self._gone

    def _loaded(self, load: Callable[[Path], Opened], at_work: str | None = None) -> Opened | None:
        self.fault, waiting = None, ""
        path = self._to_load(starts=at_work is None)
        while path is not None and path.name not in (at_work, waiting):
            try:
                return self._opened(path, load)
            except Exception as fault:  # noqa: PERF203 - three models at most
                sha = path.name
                if at_work is None and isinstance(fault, TryAgain) and self._is_pending(sha):
                    self._release()
                    waiting, path = sha, self._store.before()
                    self._say(f"{sha[:12]} has to wait: {fault}")
                    continue
                if isinstance(fault, TryAgain) or not self._blamed(sha, fault):
                    if isinstance(fault, AgentError):  # it tells nothing of the model
                        self._release()
                    raise
                misfit = fault if isinstance(fault, BadConfig) and at_work is None else None
                if misfit and (opened := self._of_before(sha, misfit, load)) is not None:
                    return opened
                self.fault = fault
                path = self._unloadable(sha, fault)
        if (path.name if path else "") == at_work:
            return None
        opened = load(starter_bundle())
        self.running = Running()
        return opened

    def _to_load(self, *, starts: bool) -> Path | None:
        """Return what is to be loaded, None for the factory's, its attempt counted; tell where another one was to run.

        Without a store that can be read it is the factory's where the agent `starts`, else NotPermitted is raised.
        """
        try:
            before = self._store.read()
            path = self._store.begin()
            after = self._store.read()
        except NotPermitted as fault:
            if not starts:
                raise
            self._say(f"store: {fault}: the factory model runs")
            return None
        if not self._gone:
            self.given_up = ""
        if before.current and before.current != self._gone and (path is None or path.name != before.current):
            why = after.why(before.current)
            if why or before.pending:
                self._tell(before.current, why or "it is not tried")
        elif after.shelved and (first := after.shelved[0]) in after.unfit and not self.given_up:
            self.given_up = f"{str(first)[:12]} does not run: {after.why(first)}"
        return self._store.without(self._gone) if path and path.name == self._gone else path

    def wanted(self) -> str:
        """Return the sha of what is to run, "" for the factory's; without a store that can be read what does run."""
        with suppress(NotPermitted):
            path = self._store.without(self._gone)
            return path.name if path else ""
        return self.running.sha

    def roll_back(self, why: str) -> None:
        """Have the store go back to the model before. Raises AgentError."""
        self._store.rollback(why)

    def commit(self) -> None:
        """Note that the model on trial works. Raises AgentError."""
        self._store.commit(self.running.sha)
        self.running = replace(self.running, state="committed", on_trial=False)

    def refresh(self) -> None:
        """Take over how the model at work stands in the store."""
        state = self._store.read()
        if self.running.sha == (state.current or ""):
            self.running = replace(self.running, state=state.standing)

    def blame(self, why: str) -> None:
        """Have the next start do without a pending model that failed at work, or hangs; from any thread."""
        running = self.running
        if running.state == "pending" and not self.given_up:
            self.give_up(running.sha, BadData(why))

    def leave(self) -> None:
        """Take back the attempt of a model on trial, also of one that is being opened: the end is an orderly one."""
        if self._begun != self._gone:
            self._release()

    def _release(self) -> None:
        begun, self._begun = self._begun, ""
        if begun:
            try:
                self._store.release(begun)
            except AgentError as fault:
                log.error("model store: %s", fault)

    def _of_before(self, sha: str, fault: BadConfig, load: Callable[[Path], Opened]) -> Opened | None:
        """Give up the pending model `sha`, which the settings do not fit; return what `load` gives for the one before.

        None: that one can't be loaded. Raises `fault` where they do not fit it either: they are wrong, and no model.
        """
        path = self._store.before()
        try:
            opened = load(path or starter_bundle())
        except BadConfig:
            self._release()
            raise fault from None
        except AgentError as worse:
            log.error("model before %s: %s", sha[:12], worse)
            return None
        self.fault = fault
        self.give_up(sha, fault)
        self.running = Running(path.name, "committed") if path else Running()
        return opened

    def _opened(self, path: Path, load: Callable[[Path], Opened]) -> Opened:
        stored, limit_ms = self._store.read(), None
        current = stored.current == path.name  # a disk that is full may have us run the one before
        pending, on_trial = current and stored.pending, current and stored.on_trial(runtime())
        if on_trial:
            self._begun = path.name
            self.doing = f"the model {path.name[:12]} is tried"
            try:
                limit_ms = self._tried(path, pending=pending)
            finally:
                self.doing = ""
        opened = load(path)
        self.running = Running(path.name, "pending" if pending else "committed", limit_ms, on_trial)
        return opened

    def _tried(self, path: Path, *, pending: bool) -> float | None:
        """Have the model tried, unless it was on this runtime; return the p95 that is too slow at work.

        One that has been committed may be as slow as it is, and runs where there can be no trial.
        """
        if (result := self._store.trials.kept(path.name)) is None:
            try:
                result = self._trial(path, Limits(max_ms=None if pending else _ANY_MS))
            except AgentError as fault:
                if pending:
                    raise
                log.warning("model %s is not tried on this runtime: %s", path.name[:12], fault)
                return None
            with suppress(CannotCreate):  # it is tried again at the next start
                self._store.trials.keep(result)
        if not result.passed:
            raise BadData(result.why)
        return limit_of(result.figures) if pending else None

    def trial_now(self) -> Figures | None:
        """Have the model at work tried beside the others as the device is now, None where that gives no figures.

        It tells of this moment alone, and is not kept. Raises AgentError.
        """
        return self._trial(self._store.versions.path(self.running.sha), Limits()).figures

    def _trial(self, path: Path, limits: Limits) -> TrialResult:
        from agent.modelstore.install import Options, try_bundle  # mostly the trial was when it was installed

        return try_bundle(path, path.name, self._store, Options(threads=self._threads, limits=limits))

    def _is_pending(self, sha: str) -> bool:
        state = self._store.read()
        return state.current == sha and state.pending

    def _blamed(self, sha: str, fault: Exception) -> bool:
        """Tell whether `fault` speaks against the model."""
        return isinstance(fault, _ITS_OWN) or self._is_pending(sha)

    def _unloadable(self, sha: str, fault: Exception) -> Path | None:
        """Give up the model `sha`, which can't be loaded, as `give_up` does; its files go where they are damaged."""
        if self._store.versions.whole(sha):
            return self.give_up(sha, fault)
        path = self.give_up(sha, fault, lasting=False)
        try:
            self._store.discard(sha)
        except AgentError as worse:
            log.error("model store: %s", worse)
        return path

    def give_up(self, sha: str, fault: Exception, *, lasting: bool = True) -> Path | None:
        """Do without the model `sha`; return what is to run in its place, None for the factory's.

        It goes into quarantine, unless that is not `lasting`: then it may be installed again.
        """
        why = str(fault) if isinstance(fault, AgentError) else f"{type(fault).__name__}: {fault}"
        self._tell(sha, why)
        try:
            if lasting:
                self._store.fail(sha, why)
            else:
                self._store.leave(sha)
        except AgentError as worse:
            log.error("model store: %s", worse)
        return self._store.without(sha)

    def _tell(self, sha: str, why: str) -> None:
        self._gone = sha
        self._say(f"{sha[:12]} was given up: {why}: the one before it runs")

    def _say(self, why: str) -> None:
        self.given_up = why
        log.error("model %s", why)
