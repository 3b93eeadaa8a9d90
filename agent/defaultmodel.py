"""The default model at work: what the model store says is to run, and what runs instead when that is no good."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeVar

from agent import wire
from agent.bundle import MANIFEST
from agent.errors import AgentError, BadConfig, BadData, InputMissing, NotPermitted, TryAgain
from agent.starter import starter_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.bundle import Bundle
    from agent.engines import Engines
    from agent.modelstore import ModelStore

log = logging.getLogger(__name__)

Opened = TypeVar("Opened")
_SLOW, _FAST_MS = 4.0, 50.0
"""At work a model may take so many times what its trial took; below so much it is never too slow."""
_ITS_OWN = (BadData, InputMissing, NotPermitted)
"""Faults of a committed model that another start would meet again."""


@dataclass(frozen=True, slots=True)
class Running:
    """The default model at work: the sha of its bundle, "" for the factory's; `limit_ms`: p95 that is too slow."""

    sha: str = ""
    state: Literal["factory", "pending", "committed"] = "factory"
    limit_ms: float | None = None


class DefaultModel:
    """What runs where no model is named, by the `store`. `given_up` tells of the last model that was, "" of none.

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
        self.fault = None
        before = self._store.read()
        path = self._store.begin()
        skipped = path is None or path.name != before.current
        if before.pending and before.current and skipped and before.current != self._gone:
            self._tell(before.current, self._store.read().quarantine.get(before.current, "it is not tried"))
        if path is not None and path.name == self._gone:  # the store could not note it
            path = self._store.without(self._gone)
        while path is not None and path.name != at_work:
            try:
                return self._opened(path, load)
            except Exception as fault:  # noqa: PERF203 - three models at most
                if isinstance(fault, TryAgain) or not self._blamed(path.name, fault):
                    raise
                misfit = fault if isinstance(fault, BadConfig) and at_work is None else None
                if misfit and (opened := self._of_before(path.name, misfit, load)) is not None:
                    return opened
                self.fault = fault
                path = self.give_up(path.name, fault)
        if (path.name if path else "") == at_work:
            return None
        opened = load(starter_bundle())
        self.running = Running()
        return opened

    def wanted(self) -> str:
        """Return the sha of what is to run, "" for the factory's. Raises NotPermitted."""
        path = self._store.without(self._gone)
        return path.name if path else ""

    def roll_back(self, why: str) -> None:
        """Have the store go back to the model before. Raises AgentError."""
        self._store.rollback(why)

    def commit(self) -> None:
        """Note that the pending model works. Raises AgentError."""
        self._store.commit(self.running.sha)
        self.running = replace(self.running, state="committed")

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
        """Take back the attempt of a pending model, also of one that is being opened: the end is an orderly one."""
        if self._begun and not self.given_up:
            self._release(self._begun)

    def _release(self, sha: str) -> None:
        try:
            self._store.release(sha)
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
            self._release(sha)
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
        pending = (
            stored.pending and stored.current == path.name
        )  # a disk that is full may have us run the one before
        if pending:
            self._begun = path.name
            self.doing = f"the model {path.name[:12]} is tried"
            try:
                limit_ms = self._tried(path)
            finally:
                self.doing = ""
        opened = load(path)
        self.running = Running(path.name, "pending" if pending else "committed", limit_ms)
        return opened

    def _tried(self, path: Path) -> float | None:
        """Have the model tried, unless it was on this runtime; return the p95 that is too slow at work."""
        from agent.modelstore.install import Options, try_bundle  # mostly the trial was when it was installed

        if (result := self._store.trials.kept(path.name)) is None:
            result = try_bundle(path, path.name, self._store, Options(threads=self._threads))
            self._store.trials.keep(result)
        if not result.passed:
            raise BadData(result.why)
        return None if result.figures is None else max(_SLOW * result.figures.p95_ms, _FAST_MS)

    def _blamed(self, sha: str, fault: Exception) -> bool:
        """Tell whether `fault` speaks against the model."""
        state = self._store.read()
        return isinstance(fault, _ITS_OWN) or (state.current == sha and state.pending)

    def give_up(self, sha: str, fault: Exception, *, lasting: bool = True) -> Path | None:
        """Do without the model `sha`; return what is to run in its place, None for the factory's.

        It goes into quarantine, unless it is not `lasting`: then it may be installed again.
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
        self.given_up = f"{sha[:12]} was given up: {why}"
        log.error("model %s: the one before it runs", self.given_up)


def model_health(
    engines: Engines, named: Path | None, default: DefaultModel | None
) -> wire.ModelHealth | None:
    """Return what runs where a camera names no model, and how it stands; None where no camera runs it.

    `named` is the bundle that the configuration names for those.
    """
    if (room := engines.at(named)) is None:
        return None
    model, running = room.model, default.running if default else Running()
    source: Literal["factory", "store", "config"] = "store" if running.sha else "factory"
    return wire.ModelHealth(
        name=model.name,
        version=model.version,
        sha256=model.sha256,
        bundle_sha=_sha_of(room.bundle),
        source="config" if named else source,
        state="config" if named else running.state,
    )


@lru_cache(maxsize=4)
def _sha_of(bundle: Bundle) -> str:
    """Return the sha256 of the manifest of a checked bundle, "" where it is gone."""
    try:
        return hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        return ""
