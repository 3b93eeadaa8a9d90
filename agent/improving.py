"""Builds the engines that are better than what runs, one after the other, while that goes on; then they take over."""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING, Protocol

from agent.assembly import open_tried
from agent.enginestore.building import Cancelled
from agent.errors import AgentError

if TYPE_CHECKING:
    from agent.backends import Engine
    from agent.backends.choice import Choice
    from agent.bundle import Bundle
    from agent.choosing import Chooser

log = logging.getLogger(__name__)

_END_S = 5.0
"""Longest wait for the thread at the end; a build at work dies with the process."""


class Room(Protocol):
    """Where a model runs: `bundle` says with which artifact."""

    bundle: Bundle

    def exchange(self, bundle: Bundle, engine: Engine) -> object:
        """Go on with another engine."""
        ...


class Improver:
    """Looks after rooms on a thread of its own, until it is closed."""

    def __init__(self, chooser: Chooser) -> None:
        self._chooser = chooser
        self._asked: queue.SimpleQueue[Room | None] = queue.SimpleQueue()
        self._rooms: tuple[Room, ...] = ()
        self._at: Room | None = None
        self._handing_over = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="engines", daemon=True)
        self._thread.start()

    def look_after(self, room: Room) -> None:
        """Give `room` the best engine as soon as that is built."""
        self._rooms = (*self._rooms, room)
        self._asked.put(room)

    def leave(self, room: Room) -> None:
        """Leave `room` alone from now on."""
        with self._handing_over:
            self._rooms = tuple(other for other in self._rooms if other is not room)

    def building(self, room: Room) -> str:
        """Return how far the build for `room` is, "" when there is none."""
        return self._chooser.engines.progress if self._at is room else ""

    def close(self) -> None:
        """End; a build at work is given up."""
        self._chooser.engines.cancelled.set()
        self._asked.put(None)
        self._thread.join(_END_S)

    def _run(self) -> None:
        while (room := self._asked.get()) is not None:
            self._at = room
            try:
                self._improve(room)
            except Cancelled:
                return
            except Exception as fault:  # what runs goes on
                log.error("engines: %s: %s; what runs goes on", type(fault).__name__, fault)
                log.debug("engines: fault", exc_info=fault)
            self._at = None

    def _improve(self, room: Room) -> None:
        """Build what is wanted, down to what runs already."""
        bundle = room.bundle
        while (wanted := self._missing(bundle)) is not None:
            try:
                self._chooser.engines.build(bundle, wanted)
                better, engine = open_tried(bundle, wanted, self._chooser)
            except AgentError as fault:
                self._chooser.engines.give_up(bundle, wanted, str(fault))
                name, runs = bundle.manifest.name, bundle.artifact().file
                log.error("engine of %s: %s (%s goes on)", name, fault, runs)
                continue
            with self._handing_over:
                if (
                    room not in self._rooms or room.bundle.path != bundle.path
                ):  # it is left, or has another model
                    engine.close()
                    return
                room.exchange(better, engine)
            log.warning("model %s: %s runs from now on", bundle.manifest.name, wanted)
            self._chooser.engines.store.collect(self._chooser.engines.target)
            return

    def _missing(self, bundle: Bundle) -> Choice | None:
        """Return the engine that would be better than what `bundle` names, None if there is none."""
        wanted = self._chooser.wanted(bundle)
        if wanted is None or wanted.backend != "tensorrt" or wanted.artifact == bundle.artifact().file:
            return None
        return wanted
