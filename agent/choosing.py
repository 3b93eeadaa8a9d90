"""Which weights of a bundle run on this device now, and which would be better."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agent.backends.runtimes import find_runtimes
from agent.backends.usable import usable_backends
from agent.builtengines import BuiltEngines
from agent.enginestore.key import Target
from agent.enginestore.store import FOLDER, EngineStore
from agent.errors import AgentError, ServiceAway
from agent.hardware import identify, read_facts
from agent.measured import read_tuning
from agent.select import plan, runs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.backends.choice import Choice
    from agent.backends.runtimes import Trial
    from agent.backends.usable import Backend
    from agent.bundle import Artifact, Bundle
    from agent.hardware import Board
    from agent.measured import Tuning
    from agent.select import Plan


class Chooser:
    """Chooses for one device, as it was found at the start.

    `threads` are those of TFLite, if not those that were measured best; `engines` those of TensorRT. Methods are
    for any thread.
    """

    def __init__(
        self,
        board: Board,
        backends: tuple[Backend, ...],
        state_dir: Path,
        *,
        engines: BuiltEngines,
        threads: int | None = None,
    ) -> None:
        self._board, self._backends, self._state_dir = board, backends, state_dir
        self.engines, self.threads = engines, threads
        self._tunings: dict[Path, Tuning | None] = {}

    @classmethod
    def here(
        cls,
        state_dir: Path,
        *,
        threads: int | None = None,
        root: Path = Path("/"),
        tell: Callable[[str], None] | None = None,
    ) -> Chooser:
        """Return that of this device, whose facts are read below `root`. `tell` hears of builds."""
        board, trials = identify(read_facts(root)), find_runtimes()
        backends = usable_backends(board, trials)
        tensorrt = next(backend for backend in backends if backend.name == "tensorrt")
        target = _target(board, tensorrt, trials)
        engines = BuiltEngines(EngineStore(state_dir / FOLDER), target, tensorrt, tell)
        return cls(board, backends, state_dir, engines=engines, threads=threads)

    def now(self, bundle: Bundle) -> Choice | None:
        """Return what runs at once: nothing has to be built for it. None: nothing can run yet.

        An engine with which one start after the other died gives way, where something else can run.
        """
        choice = self._ready(bundle)
        if choice is None or choice.backend != "tensorrt" or not (why := self.engines.deaths(bundle, choice)):
            return choice
        fault = ServiceAway("it ended the process", seen=why)
        self.distrust(bundle.choose(bundle.named(choice.artifact)), fault)
        return self._ready(bundle) or choice

    def wanted(self, bundle: Bundle) -> Choice | None:
        """Return the best that can be had here, engines that could not be built left out."""
        return self._best(bundle, lambda choice: not self.engines.failure(bundle, choice))

    def warnings(self, bundle: Bundle) -> tuple[str, ...]:
        """Return what there is to say of the choice for `bundle`."""
        told = self._plan(bundle, _good(bundle)).warnings
        if (missing := self.engines.missing) and runs("tensorrt", _good(bundle)):
            told += (f"TensorRT can't run here: {missing}",)
        return told

    def buildable(self, bundle: Bundle) -> list[Choice]:
        """Return the engines that `bundle` has an ONNX file for, the best first; none where TensorRT can't run."""
        plans = (self._plan(bundle, [artifact]) for artifact in runs("tensorrt", _good(bundle)))
        return [each.choice for each in plans if each.choice is not None]

    def failures(self, bundle: Bundle) -> tuple[str, ...]:
        """Return why engines for `bundle` are not to be had, one line each."""
        found = (self.engines.failure(bundle, choice) for choice in self.buildable(bundle))
        return tuple(line for line in found if line)

    def distrust(self, bundle: Bundle, fault: AgentError) -> None:
        """Have the next starts, for a day, do without the engine that `bundle` names: at work it failed with `fault`.

        It stays where nothing else can run.
        """
        artifact = bundle.artifact()
        choice = self._plan(bundle, [artifact]).choice
        if choice is None or self.engines.failure(bundle, choice):  # told before
            return
        why = f"{artifact.file} failed at work: {fault}"
        self.engines.give_up(bundle, choice, why)
        if self._ready(bundle) is not None:
            self.engines.throw_away(bundle, choice, why)

    def _ready(self, bundle: Bundle) -> Choice | None:
        """Return the best for which nothing has to be built, and against which nothing is known."""
        engines = self.engines
        return self._best(bundle, lambda c: engines.has(bundle, c) and not engines.failure(bundle, c))

    def _best(self, bundle: Bundle, fits: Callable[[Choice], bool]) -> Choice | None:
        """Return the best whose engine, if it is one of TensorRT, `fits`."""
        artifacts = _good(bundle)
        while True:
            choice = self._plan(bundle, artifacts).choice
            if choice is None or choice.backend != "tensorrt" or fits(choice):
                return choice
            artifacts = [each for each in artifacts if each.file != choice.artifact]

    def _plan(self, bundle: Bundle, artifacts: list[Artifact]) -> Plan:
        if bundle.path not in self._tunings:
            self._tunings[bundle.path] = read_tuning(self._state_dir, bundle.manifest.artifact)
        return plan(self._board, artifacts, self._backends, self._tunings[bundle.path])


def _good(bundle: Bundle) -> list[Artifact]:
    """Return the artifacts of `bundle`, without ONNX ones that were measured below its floor."""
    return [a for a in bundle.manifest.artifact if a.format != "onnx" or not bundle.below_floor(a)]


def _target(board: Board, tensorrt: Backend, trials: Mapping[str, Trial]) -> Target | None:
    """Return what engines are built for here, None where TensorRT can't run."""
    trial = trials["tensorrt"]
    version, sm = trial.version or tensorrt.version, trial.sm or board.sm
    if tensorrt.usable is False or version is None or sm is None:
        return None
    return Target(version, sm, board.l4t or "")
