"""A model at work: its engine, and the thread that takes the frames of its cameras through it."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from agent import wire
from agent.assembly import build_pipeline
from agent.overlap import Overlap
from agent.priority import NICE_STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.backends import Engine
    from agent.bundle import Bundle
    from agent.config import Detect
    from agent.heartbeat import Heartbeat
    from agent.lanes import Lane
    from agent.mailbox import Mailbox
    from agent.pipeline import ModelSide, Pipeline
    from agent.stages import CameraStages

    Fit = Callable[[Bundle, Engine], ModelSide]

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
        self._served: list[tuple[Lane, CameraStages, Fit]] = []
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

    def add(self, mailbox: Mailbox, stages: CameraStages, fit: Fit) -> Lane:
        """Serve one more camera. `fit` says what its stages are to have around an engine; it raises AgentError."""
        with self._changing:
            stages.exchange(fit(self.bundle, self.engine), self.model)
            self._served = [each for each in self._served if not each[0].done.is_set()]
            lane = self.overlap.add(mailbox, stages)
            self._served.append((lane, stages, fit))
            return lane

    def check(self, bundle: Bundle, engine: Engine) -> None:
        """Raise BadData, BadConfig when a camera at work can't go on with this model."""
        with self._changing:
            for lane, _, fit in self._served:
                if not lane.done.is_set():
                    fit(bundle, engine)

    def exchange(self, bundle: Bundle, engine: Engine) -> threading.Event:
        """Go on with another engine from the next frame on, and close the one before; from any thread.

        Returns what is set once that is done.
        """
        done = threading.Event()

        def swap() -> None:
            with self._changing:
                before = self.engine
                self.bundle, self.engine = bundle, engine
                self.overlap.recent.clear()
                for lane, stages, fit in self._served:
                    if not lane.done.is_set():  # who has left keeps what its last events came of
                        stages.exchange(fit(bundle, engine), self.model)
            done.set()
            before.close()

        if (left := self.overlap.exchange(engine, swap)) is not None:
            left.close()
        return done

    @property
    def inferred(self) -> int:
        """Frames that went through it so far."""
        return self.overlap.took["finish"].read().count

    @property
    def not_finite(self) -> int:
        """Frames of this model looked at so far, of the cameras of now, whose outputs were not finite."""
        return sum(stages.not_finite for lane, stages, _ in self._served if not lane.done.is_set())

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
            for engine in filter(None, (self.engine, self.overlap.coming)):
                engine.close()

    def _run(self) -> None:
        try:
            self.overlap.run()
        except BaseException as fault:  # noqa: BLE001  it is raised again in the main thread
            if not self._left:
                self._tell(fault)
