"""Which weights of a bundle run on this device now, which would be better, and the engines that are built for that."""

from __future__ import annotations

import logging
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.backends.runtimes import find_runtimes
from agent.backends.usable import usable_backends
from agent.enginestore.building import Builder
from agent.enginestore.key import Key, Target, trial_of
from agent.enginestore.store import FOLDER, EngineStore
from agent.errors import AgentError, BadData, ServiceAway
from agent.hardware import identify, read_facts
from agent.select import plan, runs
from agent.tuning import read_tuning

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.backends import Engine
    from agent.backends.choice import Choice
    from agent.backends.runtimes import Trial
    from agent.backends.usable import Backend
    from agent.bundle import Artifact, Bundle
    from agent.enginestore.key import Record
    from agent.hardware import Board
    from agent.select import Plan
    from agent.tuning import Tuning

log = logging.getLogger(__name__)


class Chooser:
    """Chooses for one device, as it was found at the start, and builds what it chose.

    `threads` are those of TFLite, if not those that were measured best. `target` is what engines are built for,
    None where TensorRT can't run. `progress` is what a build at work said last, "" without one; `tell` hears all
    of it, without one the log does. Once `cancelled` is set, builds end. Methods are for any thread.
    """

    def __init__(
        self,
        board: Board,
        backends: tuple[Backend, ...],
        state_dir: Path,
        *,
        target: Target | None,
        threads: int | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._board, self._backends, self._state_dir = board, backends, state_dir
        self._threads, self.target = threads, target
        self.store = EngineStore(state_dir / FOLDER)
        self._tell = tell or partial(log.info, "engine %s")
        self.progress = ""
        self.cancelled = threading.Event()
        self._tunings: dict[Path, Tuning | None] = {}
        self._against: dict[str, str] = {}

    @classmethod
    def here(
        cls,
        state_dir: Path,
        *,
        threads: int | None = None,
        root: Path = Path("/"),
        tell: Callable[[str], None] | None = None,
    ) -> Chooser:
        """Return that of this device, whose facts are read below `root`."""
        board, trials = identify(read_facts(root)), find_runtimes()
        backends = usable_backends(board, trials)
        target = _target(board, backends, trials)
        return cls(board, backends, state_dir, target=target, threads=threads, tell=tell)

    # -- choosing --

    def now(self, bundle: Bundle) -> Choice | None:
        """Return what runs at once: nothing has to be built for it. None: nothing can run yet."""
        ready = [
            a
            for a in _good(bundle)
            if a.format != "onnx" or (self._built(a) and not self._failure(bundle, a))
        ]
        return self._plan(bundle, ready).choice

    def wanted(self, bundle: Bundle) -> Choice | None:
        """Return the best that can be had here, engines that could not be built left out."""
        good = [a for a in _good(bundle) if a.format != "onnx" or not self._failure(bundle, a)]
        return self._plan(bundle, good).choice

    def warnings(self, bundle: Bundle) -> tuple[str, ...]:
        """Return what there is to say of the choice for `bundle`."""
        told = self._plan(bundle, _good(bundle)).warnings
        backend = self._tensorrt()
        if self.target is None and backend.version is not None and self.engines_of(bundle):
            told += (f"TensorRT can't run here: {backend.reason}; {backend.fix}",)
        return told

    def engines_of(self, bundle: Bundle) -> list[Artifact]:
        """Return what engines can be built of, the best first."""
        return runs("tensorrt", _good(bundle))

    def failures(self, bundle: Bundle) -> tuple[str, ...]:
        """Return why engines for `bundle` are not to be had, one line each."""
        found = (self._failure(bundle, artifact) for artifact in self.engines_of(bundle))
        return tuple(line for line in found if line)

    def _plan(self, bundle: Bundle, artifacts: list[Artifact]) -> Plan:
        if bundle.path not in self._tunings:
            self._tunings[bundle.path] = read_tuning(self._state_dir, bundle.manifest.artifact)
        return plan(self._board, artifacts, self._backends, self._tunings[bundle.path])

    def _built(self, artifact: Artifact) -> bool:
        return self.target is not None and self.store.has(Key(artifact.sha256, self.target))

    def _failure(self, bundle: Bundle, artifact: Artifact) -> str:
        """Return why there is no engine for `artifact`, "" where nothing is known against it."""
        if self.target is None:
            return ""
        key = Key(artifact.sha256, self.target)
        if key.digest not in self._against:  # once: those who ask every second must not wait for a disk
            failure = None if self.store.has(key) else self.store.failure(key, trial_of(bundle.manifest))
            self._against[key.digest] = failure.why if failure else ""
        return self._against[key.digest]

    # -- doing it --

    def open(self, bundle: Bundle, choice: Choice) -> tuple[Bundle, Engine]:
        """Open an engine as `choice` says; return it with the bundle that names the artifact at work.

        Raises BadData, also for an engine that is damaged, and gone now, and what an Engine does.
        """
        artifact = bundle.named(choice.artifact)
        if choice.backend == "tensorrt":
            return bundle.choose(artifact), self._open_built(artifact)
        from agent.backends.tflite import TFLiteEngine

        engine = TFLiteEngine(
            bundle.file(artifact),
            precision=artifact.precision,
            threads=self._threads or choice.threads,
            sha256=artifact.sha256,
            runtime="tflite-runtime" if choice.backend == "tflite-runtime" else None,
            delegate=choice.delegate,
        )
        return bundle.choose(artifact), engine

    def build(self, bundle: Bundle, choice: Choice, *, again: bool = False) -> Record:
        """Build the engine that `choice` needs, unless there is a sound one; with `again` a damaged one goes.

        Raises AgentError, Cancelled.
        """
        artifact = bundle.named(choice.artifact)
        key = self.key(artifact)
        if again:
            self.store.read(key)
        try:
            record = Builder(self.store, self._progress, self.cancelled).build(bundle, artifact, key)
        except AgentError as fault:
            self._against[key.digest] = str(fault)
            raise
        finally:
            self.progress = ""
        self._against[key.digest] = ""
        return record

    def give_up(self, bundle: Bundle, choice: Choice, fault: AgentError) -> None:
        """Do without the engine of `choice` until the next start, for it failed here with `fault`."""
        self._against[self.key(bundle.named(choice.artifact)).digest] = str(fault)

    def distrust(self, bundle: Bundle, fault: AgentError) -> None:
        """Have the next starts, for a day, do without the engine that `bundle` names: at work it failed with `fault`.

        It stays where nothing else can run.
        """
        artifact = bundle.artifact()
        key, why = self.key(artifact), f"{artifact.file} failed at work: {fault}"
        if self._against.get(key.digest):  # told before
            return
        self._against[key.digest] = why
        if self.now(bundle) is not None:
            self.store.remove(key, why)
            self.store.remember(key, trial_of(bundle.manifest), artifact.file, why, lasting=False)

    def key(self, artifact: Artifact) -> Key:
        """Return the key of the engine of an ONNX `artifact`. Raises ServiceAway where TensorRT can't run."""
        if self.target is None:
            told = self._tensorrt()
            raise ServiceAway("TensorRT can't run here", seen=told.reason or None, fix=told.fix)
        return Key(artifact.sha256, self.target)

    def _open_built(self, artifact: Artifact) -> Engine:
        from agent.backends.tensorrt import TensorRTEngine

        key = self.key(artifact)
        record, content = self.store.record(key), self.store.read(key)
        if record is None or content is None:
            fix = "`edge-agent engine build` builds it"
            raise BadData(f"no engine for {artifact.file} on this device", fix=fix)
        try:
            return TensorRTEngine(content, precision=artifact.precision, outputs=record.outputs)
        except BadData as fault:
            self.store.remove(key, str(fault))
            raise

    def _tensorrt(self) -> Backend:
        return next(backend for backend in self._backends if backend.name == "tensorrt")

    def _progress(self, text: str) -> None:
        self.progress = text
        self._tell(text)


def _good(bundle: Bundle) -> list[Artifact]:
    """Return the artifacts of `bundle`, without ONNX ones that were measured below its floor."""
    return [a for a in bundle.manifest.artifact if a.format != "onnx" or not bundle.below_floor(a)]


def _target(board: Board, backends: tuple[Backend, ...], trials: Mapping[str, Trial]) -> Target | None:
    """Return what engines are built for here, None where TensorRT can't run."""
    tensorrt = next(backend for backend in backends if backend.name == "tensorrt")
    trial = trials["tensorrt"]
    version, sm = trial.version or tensorrt.version, trial.sm or board.sm
    if tensorrt.usable is False or version is None or sm is None:
        return None
    return Target(version, sm, board.l4t or "")
