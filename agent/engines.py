"""The engines at work: one for each model, with the thread that takes the frames of its cameras through it."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING

from agent import wire
from agent.assembly import build_pipeline, ends, open_model
from agent.bundle import NOBODY
from agent.errors import ServiceAway
from agent.overlap import Overlap
from agent.priority import NICE_STAGES
from agent.status import EngineStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from typing_extensions import Self

    from agent.backends import Engine
    from agent.bundle import Bundle, Trust
    from agent.choosing import Chooser
    from agent.config import Detect
    from agent.errors import AgentError
    from agent.heartbeat import Heartbeat
    from agent.improving import Improver
    from agent.lanes import Lane
    from agent.mailbox import Mailbox
    from agent.pipeline import Pipeline
    from agent.stages import CameraStages

log = logging.getLogger(__name__)

_END_S = 10.0
"""Longest wait for an engine's thread: a network that hangs must not hold the end."""


class EngineRoom:
    """One model, its engine and its loop. `tell` gets what ended the loop, if it is a fault."""

    def __init__(
        self, bundle: Bundle, engine: Engine, *, eager: bool, tell: Callable[[BaseException], None]
    ) -> None:
        self.bundle, self.engine = bundle, engine
        self.bell = threading.Condition()
        self.overlap = Overlap([], engine, self.bell, eager=eager, nice=NICE_STAGES, stay=True)
        self._tell, self._left = tell, False
        self._changing = threading.Lock()
        self._served: list[tuple[Lane, CameraStages]] = []
        self._coming: Engine | None = None
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    @property
    def model(self) -> wire.Model:
        """What events tell of the model."""
        manifest, artifact = self.bundle.manifest, self.bundle.artifact()
        info = self.engine.info
        return wire.Model(manifest.name, manifest.version, artifact.sha256, artifact.precision, info.backend)

    def pipeline(
        self, detect: Detect, *, camera: str, min_score: float = 1.0, event_prefix: str = "event"
    ) -> Pipeline:
        """Return the chain of `camera` around the engine at work. Raises BadData, BadConfig."""
        with self._changing:
            return build_pipeline(
                self.bundle,
                self.engine,
                detect,
                camera=camera,
                min_score=min_score,
                event_prefix=event_prefix,
            )

    def add(self, mailbox: Mailbox, stages: CameraStages) -> Lane:
        """Serve one more camera, whose `stages` were made for an engine that this room has or had."""
        with self._changing:
            self._fit(stages)
            self._served = [each for each in self._served if not each[0].done.is_set()]
            lane = self.overlap.add(mailbox, stages)
            self._served.append((lane, stages))
            return lane

    def exchange(self, bundle: Bundle, engine: Engine) -> None:
        """Go on with another engine from the next frame on, and close the one before; from any thread."""

        def swap() -> None:
            with self._changing:
                before, self._coming = self.engine, None
                self.bundle, self.engine = bundle, engine
                for _, stages in self._served:
                    self._fit(stages)
            before.close()

        self._coming = engine
        self.overlap.exchange(engine, swap)

    def beats(self) -> Iterator[Heartbeat]:
        """Yield what the engine and the loop around it do now."""
        name = self.bundle.manifest.name
        yield self.engine_beat()
        yield self.overlap.loop_beat.read(f"stages {name}")

    def engine_beat(self) -> Heartbeat:
        """Return what the engine does now."""
        return self.overlap.engine_beat.read(f"engine {self.bundle.manifest.name}")

    def close(self) -> None:
        """End the loop and release the engine; every lane must have been closed."""
        self.overlap.close()
        self._thread.join(_END_S)
        if self._thread.is_alive():
            self._left = True
            log.error("the engine of %s does not end: going without it", self.bundle.manifest.name)
        else:
            for engine in filter(None, (self.engine, self._coming)):
                engine.close()

    def _fit(self, stages: CameraStages) -> None:
        stages.exchange(*ends(self.bundle, self.engine, stages.min_score), self.model)

    def _run(self) -> None:
        try:
            self.overlap.run()
        except BaseException as fault:  # noqa: BLE001  it is raised again in the main thread
            if not self._left:
                self._tell(fault)


class Engines:
    """The table of engine rooms, by the path of the bundle; all are closed at the end of the `with` block.

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
    ) -> None:
        self._threads, self._eager, self._tell, self._trust = threads, eager, tell, trust
        self._find: Callable[[], Chooser | None] | None = find
        self._chooser: Chooser | None = None
        self._improver: Improver | None = None
        self._rooms: dict[Path, EngineRoom] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._chooser is not None:
            self._chooser.cancelled.set()
        if self._improver is not None:
            self._improver.close()
        self.keep(())

    def room(self, model: Path) -> EngineRoom:
        """Return the room of the bundle `model`; a new one is opened, tried out and told. Raises AgentError."""
        if (find := self._find) is not None:
            self._find = None
            self._choose_by(find())
        if model not in self._rooms:
            bundle, engine = open_model(
                model, threads=self._threads, trust=self._trust, chooser=self._chooser
            )
            _tell_origin(bundle)
            for warning in self._chooser.warnings(bundle) if self._chooser else ():
                log.warning("model %s: %s", bundle.manifest.name, warning)
            tell = partial(self._failed, model)
            room = EngineRoom(bundle, engine, eager=self._eager, tell=tell)
            self._rooms = {**self._rooms, model: room}
            if self._improver is not None:
                self._improver.look_after(room)
        return self._rooms[model]

    @property
    def rooms(self) -> tuple[EngineRoom, ...]:
        """Those at work."""
        return tuple(self._rooms.values())

    @property
    def building(self) -> str:
        """How far the build of an engine is, "" without one; from any thread."""
        return self._chooser.progress if self._chooser else ""

    def beats(self) -> list[Heartbeat]:
        """Return what the engines and their loops do now, from any thread."""
        return [beat for room in self.rooms for beat in room.beats()]

    def blame(self, stuck: Collection[Heartbeat]) -> None:
        """Have the next start do without an engine of TensorRT that is among the `stuck`; from any thread."""
        stages = {beat.stage for beat in stuck}
        for room in self.rooms:
            if (beat := room.engine_beat()).stage in stages:
                self._distrust(room, ServiceAway("it hangs", seen=f"more than {beat.deadline_s:g} s"))

    def status(self) -> tuple[EngineStatus, ...]:
        """Return what runs for each model, what is built for it, and what could not be; from any thread."""
        return tuple(self._status(room) for room in self.rooms)

    def keep(self, models: Collection[Path]) -> None:
        """Close the rooms of all other models."""
        leaving = [room for model, room in self._rooms.items() if model not in models]
        self._rooms = {model: room for model, room in self._rooms.items() if model in models}
        for room in leaving:
            if self._improver is not None:
                self._improver.leave(room)
            room.close()

    def _choose_by(self, chooser: Chooser | None) -> None:
        self._chooser = chooser
        if chooser is not None and chooser.target is not None and not self._eager:
            from agent.improving import Improver  # who has no TensorRT needs nothing of it

            self._improver = Improver(chooser)

    def _failed(self, model: Path, fault: BaseException) -> None:
        """Tell what ended the loop of `model`; an engine of TensorRT that failed is not what the next start takes."""
        room = self._rooms.get(model)
        if room and isinstance(fault, ServiceAway):  # what an engine raises when its device fails
            self._distrust(room, fault)
        self._tell(fault)

    def _distrust(self, room: EngineRoom, fault: AgentError) -> None:
        if self._chooser and room.model.backend == "tensorrt":
            self._chooser.distrust(room.bundle, fault)

    def _status(self, room: EngineRoom) -> EngineStatus:
        model, artifact, chooser = room.model, room.bundle.artifact(), self._chooser
        return EngineStatus(
            model=model.name,
            backend=model.backend,
            artifact=artifact.file,
            precision=artifact.precision,
            building=self._improver.building(room) if self._improver else "",
            failures=chooser.failures(room.bundle) if chooser else (),
        )


def _tell_origin(bundle: Bundle) -> None:
    manifest = bundle.manifest
    log.info("model %s v%d: %s", manifest.name, manifest.version, bundle.origin.text)
    for what, fix in bundle.doubts(bundle.artifact()):
        log.warning("model %s: %s; %s", manifest.name, what, fix)
