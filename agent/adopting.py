"""Takes the default model over from the store while cameras run, and watches one that is new until it may stay."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import AgentError, BadData, TryAgain
from agent.heartbeat import ROUND_S
from agent.modelhealth import model_health
from agent.probation import SLOW_S, Probation, Ruling, Signs, Terms
from agent.recent import percentiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Self

    from agent import wire
    from agent.backends import Engine
    from agent.bundle import Bundle
    from agent.config import ModelsConfig
    from agent.defaultmodel import DefaultModel
    from agent.engineroom import EngineRoom
    from agent.engines import Engines

log = logging.getLogger(__name__)

_SWAP_S = 30.0
"""Longest wait for the frames in work: one that takes longer hangs."""
_END_S = 5.0
_KNOWN = 0.1
"""Share of frames and time that a committed model has to show on another runtime: that it runs, not how well."""


class Adopting:
    """Has the default model follow the store while the `with` block runs; methods are for any thread.

    `on_main` runs a function where cameras do not change meanwhile, and returns what that returns.
    """

    def __init__(
        self,
        default: DefaultModel,
        engines: Engines,
        terms: ModelsConfig,
        on_main: Callable[[Callable[[], threading.Event]], threading.Event],
    ) -> None:
        self._default, self._engines, self._terms, self._on_main = default, engines, terms, on_main
        self._changing = threading.Lock()
        self._watched: _Watched | None = None
        self._room: EngineRoom | None = None
        self._told = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._changing.acquire(timeout=_END_S):  # a trial goes on meanwhile, and ends with the process
            self._changing.release()

    def adopt(self) -> wire.ModelHealth | None:
        """Have what the store says run; the model of before goes on until the new one takes the next frame.

        Returns what runs then, None where no camera runs the default model. Raises AgentError when it is no good:
        it was given up then, and the one before it runs.
        """
        with self._changing:
            self._default.forget()
            self._follow()
            if self._default.fault is not None:
                raise self._default.fault
        return self.model()

    def roll_back(self, why: str) -> wire.ModelHealth | None:
        """Have the model before the one of now run. Raises AgentError, also where there is none."""
        self._default.roll_back(why)
        return self.adopt()

    def model(self) -> wire.ModelHealth | None:
        """Return what the default model is and how it stands; None where no camera runs it."""
        return model_health(self._engines, None, self._default)

    def _follow(self) -> None:
        default = self._default
        before = default.running
        default.fault = None
        default.refresh()
        if self._engines.default_room is None or default.wanted() == before.sha:
            return
        default.follow(self._hand_over)
        if (now := default.running).sha != before.sha and (room := self._engines.default_room):
            manifest = room.bundle.manifest
            log.warning("model %s v%d runs from now on (%s)", manifest.name, manifest.version, now.state)

    def _hand_over(self, path: Path) -> None:
        """Open the bundle beside what runs, and have it run from the next frame on. Raises AgentError."""
        bundle, engine = self._engines.open(path)
        try:
            done = self._on_main(lambda: self._exchange(bundle, engine))
        except BaseException:
            engine.close()
            raise
        if not done.wait(_SWAP_S):
            fix = "a restart takes the new one on"
            raise TryAgain("the model at work hangs", seen=f"for {_SWAP_S:g} s", fix=fix)
        self._engines.improve()

    def _exchange(self, bundle: Bundle, engine: Engine) -> threading.Event:
        self._watched = None
        return self._engines.exchange(bundle, engine)

    # -- probation --

    def _run(self) -> None:
        while not self._stopping.wait(ROUND_S):
            self._try_to_look()

    def _try_to_look(self) -> None:
        try:
            self.look(time.monotonic())
        except Exception as fault:  # what runs goes on
            told, self._told = self._told, f"{type(fault).__name__}: {fault}"
            if self._told != told:
                log.error("models: %s", self._told)
                log.debug("models: fault", exc_info=fault)
        else:
            self._told = ""

    def look(self, now_s: float) -> None:
        """Commit a model that has shown that it works, or go back; about once a second. Raises AgentError."""
        with self._changing:
            watched, ruling = self._looked(now_s)
            self._settle(ruling)
        if watched is not None and ruling.verdict == "slow":
            ruling = self._compared(watched, now_s)
            with self._changing:
                if self._watched is watched and not self._stopping.is_set():
                    self._settle(ruling)

    def _looked(self, now_s: float) -> tuple[_Watched | None, Ruling]:
        """Return what is on trial at work, and what is to become of it."""
        if self._stopping.is_set():
            return None, Ruling("wait")
        default, room = self._default, self._engines.default_room
        fresh, self._room = room is not self._room, room
        # Who changed the store while a room was being opened found nobody to tell.
        if default.must_leave or (fresh and room is not None and default.wanted() != default.running.sha):
            self._follow()
        elif room is None or not default.running.on_trial:
            self._watched = None
        elif self._watched is None or self._watched.room is not room:
            self._watched = _Watched(Probation(self._terms_now(), now_s), now_s, room, room.inferred)
        else:
            return self._watched, self._watched.rule(now_s)
        return None, Ruling("wait")

    def _terms_now(self) -> Terms:
        """Return what the model at work has to show: less of one that has worked here, on another runtime."""
        terms, running = self._terms, self._default.running
        share = 1.0 if running.state == "pending" else _KNOWN
        frames, time_s = round(terms.commit_frames * share), terms.commit_s * share
        return Terms(frames=max(1, frames), time_s=time_s, limit_ms=running.limit_ms)

    def _settle(self, ruling: Ruling) -> None:
        if ruling.verdict == "commit":
            self._default.commit()
            if room := self._engines.default_room:
                manifest = room.bundle.manifest
                log.warning("model %s v%d is committed", manifest.name, manifest.version)
        elif ruling.verdict == "back":
            self._default.give_up(self._default.running.sha, BadData(ruling.bad), lasting=ruling.lasting)
            self._follow()

    def _compared(self, watched: _Watched, now_s: float) -> Ruling:
        """Have the model that seems slow tried beside the others, and judge it by what it did meanwhile.

        That may take minutes. Who changes the model does not wait for it.
        """
        trial, began_s = None, time.monotonic()
        try:
            trial = self._default.trial_now()
        except AgentError as fault:
            log.warning("whether the new model or the device is slow can't be told: %s", fault)
        took_s = time.monotonic() - began_s
        meanwhile = percentiles(watched.room.overlap.recent.values(began_s))
        return watched.probation.compare(meanwhile, trial, now_s + took_s)


@dataclass(frozen=True, slots=True)
class _Watched:
    """A model on trial at work in `room` since `begun_s`, and how many frames that had done before."""

    probation: Probation
    begun_s: float
    room: EngineRoom
    frames: int

    def rule(self, now_s: float) -> Ruling:
        room = self.room
        signs = Signs(
            frames=room.inferred - self.frames,
            not_finite=room.not_finite,
            lately=percentiles(room.overlap.recent.values(max(self.begun_s, now_s - SLOW_S))),
            stuck=any(beat.call and now_s - beat.since_s > beat.deadline_s for beat in room.beats()),
        )
        return self.probation.step(signs, now_s)
