"""The table of the models at work, by the bundles that cameras name, and the default model for those that name none."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from agent.assembly import open_model
from agent.bundle import NOBODY
from agent.engineroom import EngineRoom
from agent.errors import ServiceAway, TryAgain
from agent.starter import starter_bundle
from agent.status import EngineStatus, Spread

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection
    from pathlib import Path

    from typing_extensions import Self

    from agent.backends import Engine
    from agent.bundle import Bundle, Trust
    from agent.choosing import Chooser
    from agent.errors import AgentError
    from agent.heartbeat import Heartbeat
    from agent.improving import Improver

Opened = TypeVar("Opened")
log = logging.getLogger(__name__)


class Default(Protocol):
    """Which model runs where none is named."""

    doing: str
    """What it is busy with before a model can run, "" without anything."""

    def open(self, load: Callable[[Path], Opened]) -> Opened:
        """Return what `load` gives for the bundle that is to run. Raises AgentError."""
        ...

    def blame(self, why: str) -> None:
        """Note that the model at work failed or hangs; from any thread."""
        ...


class Starter:
    """The starter, always."""

    doing = ""

    def open(self, load: Callable[[Path], Opened]) -> Opened:
        """Return what `load` gives for it. Raises AgentError."""
        return load(starter_bundle())

    def blame(self, why: str) -> None:
        """Do nothing: there is no other."""


def _anything(_bundle: Bundle, _engine: Engine) -> None:
    """Be content."""


class Engines:
    """The table of engine rooms; all are closed at the end of the `with` block.

    A room has the path of its bundle as key, that of the `default` model None: its bundle may change.
    What `find` returns, asked once, chooses what runs; None is the best tflite artifact on `threads`. Unless
    `eager`, engines of TensorRT that are still to be built are, meanwhile, and take over.
    """

    def __init__(
        self,
        *,
        eager: bool,
        tell: Callable[[BaseException], None],
        threads: int = 1,
        trust: Trust = NOBODY,
        find: Callable[[], Chooser | None] = lambda: None,
        default: Default | None = None,
    ) -> None:
        self._threads, self._eager, self._tell, self._trust = threads, eager, tell, trust
        self._default = default or Starter()
        self._find: Callable[[], Chooser | None] | None = find
        self._chooser: Chooser | None = None
        self._improver: Improver | None = None
        self._rooms: dict[Path | None, EngineRoom] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._chooser is not None:
            self._chooser.engines.cancelled.set()
        if self._improver is not None:
            self._improver.close()
        self.keep(())

    def room(self, model: Path | None, check: Callable[[Bundle, Engine], object] = _anything) -> EngineRoom:
        """Return the room of the bundle `model`; a new one is opened, tried out and told. Raises AgentError.

        Of a new one `check` says by an AgentError whether it will do; the default model then gives way.
        """
        if model not in self._rooms:

            def load(path: Path) -> tuple[Bundle, Engine]:
                return self.open(path, check)

            bundle, engine = self._default.open(load) if model is None else load(model)
            tell = partial(self._failed, model)
            room = EngineRoom(bundle, engine, eager=self._eager, tell=tell)
            self._rooms = {**self._rooms, model: room}
            if self._improver is not None:
                self._improver.look_after(room)
        return self._rooms[model]

    def open(
        self, path: Path, check: Callable[[Bundle, Engine], object] = _anything
    ) -> tuple[Bundle, Engine]:
        """Open the bundle `path` and an engine for it, tried out; both are the caller's. Raises AgentError."""
        if (find := self._find) is not None:
            self._find = None
            self._choose_by(find())
        bundle, engine = open_model(path, threads=self._threads, trust=self._trust, chooser=self._chooser)
        try:
            check(bundle, engine)
        except BaseException:
            engine.close()
            raise
        _tell_origin(bundle)
        for warning in self._chooser.warnings(bundle) if self._chooser else ():
            log.warning("model %s: %s", bundle.manifest.name, warning)
        return bundle, engine

    @property
    def default_room(self) -> EngineRoom | None:
        """The room of the default model; None: no camera runs it."""
        return self.at(None)

    def at(self, model: Path | None) -> EngineRoom | None:
        """Return the room of the bundle `model`, None where no camera runs it."""
        return self._rooms.get(model)

    def exchange(self, bundle: Bundle, engine: Engine) -> threading.Event:
        """Have the default model's room go on with another model; return what is set once that is done.

        Raises BadData, BadConfig, TryAgain, with the old one at work and `engine` the caller's.
        """
        if (room := self.default_room) is None:  # its last camera has left
            raise TryAgain("no camera runs the default model", fix="it is taken on when one does")
        room.check(bundle, engine)
        if self._improver is not None:
            self._improver.leave(room)
        return room.exchange(bundle, engine)

    def improve(self) -> None:
        """Have the best engine built for the default model, which is at work now."""
        if self._improver is not None and (room := self.default_room) is not None:
            self._improver.look_after(room)

    @property
    def rooms(self) -> tuple[EngineRoom, ...]:
        """Those at work."""
        return tuple(self._rooms.values())

    @property
    def building(self) -> str:
        """How far the build of an engine is, "" without one; from any thread."""
        return self._default.doing or (self._chooser.engines.progress if self._chooser else "")

    def beats(self) -> list[Heartbeat]:
        """Return what the engines and their loops do now, from any thread."""
        return [beat for room in self.rooms for beat in room.beats()]

    def blame(self, stuck: Collection[Heartbeat]) -> None:
        """Have the next start do without an engine of TensorRT that is among the `stuck`; from any thread."""
        stages = {beat.stage for beat in stuck}
        for room in self.rooms:
            if (beat := room.engine_beat()).stage in stages:
                fault = ServiceAway("it hangs", seen=f"more than {beat.deadline_s:g} s")
                self._distrust(room, fault)
            if room is self.default_room and not stages.isdisjoint(beat.stage for beat in room.beats()):
                self._default.blame("it hangs")

    def status(self) -> tuple[EngineStatus, ...]:
        """Return what runs for each model, what is built for it, and what could not be; from any thread."""
        return tuple(self._status(room) for room in self.rooms)

    def keep(self, models: Collection[Path | None]) -> None:
        """Close the rooms of all other models."""
        leaving = [room for model, room in self._rooms.items() if model not in models]
        self._rooms = {model: room for model, room in self._rooms.items() if model in models}
        for room in leaving:
            if self._improver is not None:
                self._improver.leave(room)
            room.close()

    def _choose_by(self, chooser: Chooser | None) -> None:
        self._chooser = chooser
        if chooser is not None and chooser.engines.target is not None and not self._eager:
            from agent.improving import Improver  # who has no TensorRT needs nothing of it

            self._improver = Improver(chooser)

    def _failed(self, model: Path | None, fault: BaseException) -> None:
        """Tell what ended the loop of `model`; an engine of TensorRT that failed is not what the next start takes."""
        room = self._rooms.get(model)
        if room and isinstance(fault, ServiceAway):  # what an engine raises when its device fails
            self._distrust(room, fault)
        if model is None:
            self._default.blame(f"{type(fault).__name__}: {fault}")
        self._tell(fault)

    def _distrust(self, room: EngineRoom, fault: AgentError) -> None:
        if self._chooser and room.model.backend == "tensorrt":
            self._chooser.distrust(room.bundle, fault)

    def _status(self, room: EngineRoom) -> EngineStatus:
        model, artifact, chooser = room.model, room.bundle.artifact(), self._chooser
        odd = ("its outputs were not finite",) if room.not_finite else ()
        return EngineStatus(
            model=model.name,
            backend=model.backend,
            artifact=artifact.file,
            precision=artifact.precision,
            building=self._improver.building(room) if self._improver else "",
            failures=(chooser.failures(room.bundle) if chooser else ()) + odd,
            infer_ms=Spread.of(room.overlap.recent.read(time.monotonic())),
        )


def _tell_origin(bundle: Bundle) -> None:
    manifest = bundle.manifest
    log.info("model %s v%d: %s", manifest.name, manifest.version, bundle.origin.text)
    for what, fix in bundle.doubts(bundle.artifact()):
        log.warning("model %s: %s; %s", manifest.name, what, fix)
