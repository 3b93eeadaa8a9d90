"""The TensorRT engines of this device: built, opened, and what is known against them."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING

from agent.enginestore import marks
from agent.enginestore.building import Builder
from agent.enginestore.key import Key, trial_of
from agent.enginestore.proving import ProvenEngine
from agent.errors import AgentError, BadData, ServiceAway

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.backends import Engine
    from agent.backends.choice import Choice
    from agent.backends.usable import Backend
    from agent.bundle import Bundle
    from agent.enginestore.key import Record, Target
    from agent.enginestore.store import EngineStore

log = logging.getLogger(__name__)

MOST_DEATHS = 2
"""Starts that may die with an engine at work: one may be a cut of the power."""


class BuiltEngines:
    """Those in `store`, for `target`; None where TensorRT can't run, for the reason that `tensorrt` tells.

    `progress` is what a build at work said last, "" without one; `tell` hears all of it, without one the log does.
    Once `cancelled` is set, builds end. Methods are for any thread.
    """

    def __init__(
        self,
        store: EngineStore,
        target: Target | None,
        tensorrt: Backend,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.store, self.target = store, target
        self._tensorrt = tensorrt
        self._tell = tell or partial(log.info, "engine %s")
        self.progress = ""
        self.cancelled = threading.Event()
        self._against: dict[str, str] = {}

    @property
    def missing(self) -> str:
        """Why TensorRT, which is installed, can't run here; "" if it can, or is not there."""
        told = self._tensorrt
        return f"{told.reason}; {told.fix}" if self.target is None and told.version is not None else ""

    def require(self) -> Target:
        """Return the target. Raises ServiceAway where TensorRT can't run."""
        if self.target is None:
            told = self._tensorrt
            raise ServiceAway("TensorRT can't run here", seen=told.reason or None, fix=told.fix)
        return self.target

    def key(self, bundle: Bundle, choice: Choice) -> Key:
        """Return the key of the engine of `choice`. Raises ServiceAway where TensorRT can't run."""
        return Key(bundle.named(choice.artifact).sha256, self.require(), choice.batch)

    def has(self, bundle: Bundle, choice: Choice) -> bool:
        """Tell whether the engine is built; whether it is sound, `open` tells."""
        return self.target is not None and self.store.has(self.key(bundle, choice))

    def failure(self, bundle: Bundle, choice: Choice) -> str:
        """Return what is against the engine of `choice`, "" where nothing is known."""
        if self.target is None:
            return ""
        key = self.key(bundle, choice)
        if key.digest not in self._against:  # once: those who ask every second must not wait for a disk
            failure = None if self.store.has(key) else self.store.failure(key, trial_of(bundle.manifest))
            self._against[key.digest] = failure.why if failure else ""
        return self._against[key.digest]

    def build(self, bundle: Bundle, choice: Choice, *, again: bool = False) -> Record:
        """Build the engine of `choice`, unless there is a sound one; with `again` a damaged one goes.

        Raises AgentError, Cancelled.
        """
        key = self.key(bundle, choice)
        if again:
            self.store.read(key)
        try:
            builder = Builder(self.store, self._progress, self.cancelled)
            record = builder.build(bundle, bundle.named(choice.artifact), key)
        except AgentError as fault:
            self._against[key.digest] = str(fault)
            raise
        finally:
            self.progress = ""
        self._against[key.digest] = ""
        return record

    def open(self, bundle: Bundle, choice: Choice) -> Engine:
        """Open the engine of `choice`, marked as at work. Raises BadData where there is no sound one, ServiceAway."""
        from agent.backends.tensorrt import TensorRTEngine

        artifact, key = bundle.named(choice.artifact), self.key(bundle, choice)
        record, content = self.store.record(key), self.store.read(key)
        if record is None or content is None:
            fix = "`edge-agent engine build` builds it"
            raise BadData(f"no engine for {artifact.file} on this device", fix=fix)
        mark = marks.set_mark(self.store.place(key))  # before it is loaded: that may end the process too
        try:
            engine = TensorRTEngine(content, precision=artifact.precision, outputs=record.outputs)
        except BaseException as fault:
            if mark is not None:
                marks.clear(mark)
            if isinstance(fault, BadData):
                self.store.remove(key, str(fault))
            raise
        return engine if mark is None else ProvenEngine(engine, mark)

    def forget(self, bundle: Bundle, choice: Choice) -> None:
        """Have the next start try again what failed."""
        self.store.forget(self.key(bundle, choice))

    def deaths(self, bundle: Bundle, choice: Choice) -> str:
        """Return what to say of an engine with which too many starts died, "" of any other."""
        count = marks.deaths(self.store.place(self.key(bundle, choice)))
        return f"{count} starts ended with it at work, the last ones" if count >= MOST_DEATHS else ""

    def give_up(self, bundle: Bundle, choice: Choice, why: str) -> None:
        """Do without the engine of `choice` until the next start."""
        self._against[self.key(bundle, choice).digest] = why

    def throw_away(self, bundle: Bundle, choice: Choice, why: str) -> None:
        """Do without the engine of `choice` for a day: it is removed, and then built anew."""
        key = self.key(bundle, choice)
        self.store.remove(key, why)
        self.store.remember(key, trial_of(bundle.manifest), choice.artifact, why, lasting=False)

    def _progress(self, text: str) -> None:
        self.progress = text
        self._tell(text)
