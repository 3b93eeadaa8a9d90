"""The engines at work: one for each model, with the thread that takes the frames of its cameras through it."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from agent import wire
from agent.assembly import open_model
from agent.bundle import NOBODY
from agent.overlap import Overlap
from agent.priority import NICE_STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from typing_extensions import Self

    from agent.backends import Engine
    from agent.bundle import Bundle, Trust
    from agent.heartbeat import Heartbeat

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
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    @property
    def model(self) -> wire.Model:
        """What events tell of the model."""
        manifest, artifact = self.bundle.manifest, self.bundle.artifact("tflite")
        info = self.engine.info
        return wire.Model(manifest.name, manifest.version, artifact.sha256, artifact.precision, info.backend)

    def beats(self) -> Iterator[Heartbeat]:
        """Yield what the engine and the loop around it do now."""
        name = self.bundle.manifest.name
        yield self.overlap.engine_beat.read(f"engine {name}")
        yield self.overlap.loop_beat.read(f"stages {name}")

    def close(self) -> None:
        """End the loop and release the engine; every lane must have been closed."""
        self.overlap.close()
        self._thread.join(_END_S)
        if self._thread.is_alive():
            self._left = True
            log.error("the engine of %s does not end: going without it", self.bundle.manifest.name)
        else:
            self.engine.close()

    def _run(self) -> None:
        try:
            self.overlap.run()
        except BaseException as fault:  # noqa: BLE001  it is raised again in the main thread
            if not self._left:
                self._tell(fault)


class Engines:
    """The table of engine rooms, by the path of the bundle; all are closed at the end of the `with` block."""

    def __init__(
        self, *, threads: int, eager: bool, tell: Callable[[BaseException], None], trust: Trust = NOBODY
    ) -> None:
        self._threads, self._eager, self._tell, self._trust = threads, eager, tell, trust
        self._rooms: dict[Path, EngineRoom] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.keep(())

    def room(self, model: Path) -> EngineRoom:
        """Return the room of the bundle `model`; a new one is opened, tried out and told. Raises AgentError."""
        if model not in self._rooms:
            bundle, engine = open_model(model, threads=self._threads, trust=self._trust)
            _tell_origin(bundle)
            self._rooms[model] = EngineRoom(bundle, engine, eager=self._eager, tell=self._tell)
        return self._rooms[model]

    @property
    def rooms(self) -> tuple[EngineRoom, ...]:
        """Those at work."""
        return tuple(self._rooms.values())

    def beats(self) -> list[Heartbeat]:
        """Return what the engines and their loops do now, from any thread."""
        return [beat for room in self.rooms for beat in room.beats()]

    def keep(self, models: Collection[Path]) -> None:
        """Close the rooms of all other models."""
        for model in [model for model in self._rooms if model not in models]:
            self._rooms.pop(model).close()


def _tell_origin(bundle: Bundle) -> None:
    manifest = bundle.manifest
    log.info("model %s v%d: %s", manifest.name, manifest.version, bundle.origin.text)
    for what, fix in bundle.doubts(bundle.artifact("tflite")):
        log.warning("model %s: %s; %s", manifest.name, what, fix)
