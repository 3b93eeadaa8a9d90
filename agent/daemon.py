"""Builds the agent, runs it until it is told to stop or all is done, changes it on a reload, and ends it in order."""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from agent.allocator import use_one_arena
from agent.camera import CameraOptions, Ended
from agent.control import Control, socket_folder
from agent.errors import AgentError
from agent.lastwords import LastWords, stopped_within
from agent.monitor import Monitor
from agent.sampling import full_rate
from agent.signals import RELOAD, signals_into
from agent.systemd import Systemd
from agent.throttle import Throttle
from agent.watch import Watch, bundle_path, check_cameras, complete

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.engines import Engines
    from agent.outlet import Outlet
    from agent.pipeline import Result
    from agent.runoptions import RunOptions

log = logging.getLogger(__name__)

GIL_SWITCH_S = 0.0005
"""How long a thread may keep the interpreter when another wants it; Python's own 5 ms is an inference."""
_DRAIN_STEP_S = 0.25
_BUSY_AGAIN_S = 20.0
"""How often systemd is told how far the build of an engine is: well before it gives up on us."""
_AWAY_S = 1.0
"""A stop by a signal does not wait for a broker that has been away for so long: the outbox keeps all."""
_RELOAD_DRAIN_S, _STOP_DRAIN_S = 1.0, 3.0
"""Longest drains when it is not the end of a clip: what is left goes out after the next start."""

Happening = str | Ended | BaseException | Future[None]
"""What the main thread waits for: the name of a signal, a camera's end, a fault of an engine, models loaded."""


def run(options: RunOptions, recorders: Sequence[Callable[[Result], None]] = ()) -> None:
    """Run until every source has ended or SIGTERM or SIGINT comes; then end open events and drain.

    `recorders` get the result of every inferred frame before its events are queued.
    Raises AgentError; TryAgain when messages are left for the next start.
    """
    sys.setswitchinterval(GIL_SWITCH_S)
    use_one_arena()
    happenings: queue.SimpleQueue[Happening] = queue.SimpleQueue()
    systemd = Systemd()
    folder = options.state_dir if options.reload is not None else None
    with signals_into(happenings, reload=options.reload is not None), LastWords(folder) as words, systemd:
        if systemd.manages and stopped_within(words.wait_s, happenings, systemd):
            return
        following: RunOptions | None = options
        good: RunOptions | None = None
        while following is not None:
            service = _Service(following, recorders, happenings, systemd, words)
            try:
                following, good = service.run(), service.options
                if following is not None:
                    log.info("reload: more than cameras is new: starting anew as %s", following.config.device)
            except AgentError as fault:
                if service.started or good is None:
                    raise
                log.error("reload: %s: the configuration before it stays", fault)
                following, good = good, None


@dataclass(frozen=True, slots=True)
class _End:
    """Why a configuration is no longer at work; `reason` is what its open events are told."""

    reason: str
    fault: BaseException | None = None
    following: RunOptions | None = None


class _Service:
    """One configuration at work: its cameras may change while it runs, the rest may not."""

    def __init__(
        self,
        options: RunOptions,
        recorders: Sequence[Callable[[Result], None]],
        happenings: queue.SimpleQueue[Happening],
        systemd: Systemd,
        words: LastWords,
    ) -> None:
        self.options, self._recorders, self._happenings = options, recorders, happenings
        self._systemd, self._throttle, self._words = systemd, Throttle(), words
        self.started = False
        self._late_fault: BaseException | None = None

    def run(self) -> RunOptions | None:
        """Run to the end; return what is to run instead, if that is why it ended. Raises AgentError."""
        options = self.options
        self._systemd.busy("starting: models and outbox are opened")
        with ExitStack() as stack:
            engines = stack.enter_context(options.open_engines(self._happenings.put))
            if self._stopped_while_loading(options, engines):
                self._systemd.stopping("shutdown")
                return None
            outlet = stack.enter_context(options.open_outlet(self._words.last))
            watch = self._watch(engines, outlet, stack)
            watch.apply(complete(options.config))
            self.started = True
            self._systemd.reloaded()
            monitor = self._watched(watch, engines, outlet, stack)
            end = self._until_end(watch, engines)
            monitor.leave()
            if end.following is None:
                self._systemd.stopping(end.reason)
            watch.stop(watch.cameras, end.reason)
            drained = self._drain(outlet, end, options.config.limits.drain_s if watch.inferred else 0.0)
            waiting, reason = outlet.waiting(), outlet.publisher.state.last_error
        if end.following is None:
            self._signalled()  # an engine may have failed on the last frames
        if (fault := end.fault or self._late_fault) is not None:
            raise fault
        if end.following is None and waiting and not drained:
            raise options.undelivered(waiting, reason)
        return end.following

    def _watch(self, engines: Engines, outlet: Outlet, stack: ExitStack) -> Watch:
        options = self.options
        files = options.open_files(engines, stack)
        floor = options.min_score if options.detections else 1.0
        return Watch(
            engines,
            outlet,
            CameraOptions(
                pace=options.pace,
                min_score=floor,
                retry=options.reload is not None,
                budget=full_rate if options.pace == "fastest" else lambda: self._throttle.budget.factor,
            ),
            ended=self._happenings.put,
            recorders=[*self._recorders, *files],
        )

    def _watched(self, watch: Watch, engines: Engines, outlet: Outlet, stack: ExitStack) -> Monitor:
        """Have the agent judged once a second, and those answered who ask, until `stack` is closed."""
        state_dir = self.options.state_dir.absolute()
        stack.callback(self._systemd.busy, "reloading: the configuration before is left")
        monitor = stack.enter_context(
            Monitor(
                watch,
                engines,
                outlet,
                state_dir=state_dir,
                systemd=self._systemd,
                throttle=self._throttle,
                words=self._words,
            )
        )
        try:
            stack.enter_context(Control(socket_folder(state_dir, os.environ), {"status": monitor.status}))
        except AgentError as fault:
            log.warning("`edge-agent status` can't ask this agent: %s", fault)
        if (address := self.options.config.metrics.address) is not None:
            from agent.metrics.endpoint import Endpoint  # who is not asked needs no prometheus-client

            try:
                stack.enter_context(Endpoint(*address, monitor.snapshot))
            except AgentError as fault:
                log.error("no metrics: %s", fault)
        return monitor

    def _stopped_while_loading(self, options: RunOptions, engines: Engines) -> bool:
        """Open the models of `options` and try its settings; return whether a stop was asked for meanwhile.

        Models take long: a stop does not wait for them. Whatever else happens is left for later. Raises AgentError.
        """
        loaded: Future[None] = Future()

        def load() -> None:
            try:
                check_cameras(complete(options.config), engines)
                loaded.set_result(None)
            except BaseException as fault:  # noqa: BLE001  it is raised in the main thread
                loaded.set_exception(fault)
            self._happenings.put(loaded)

        threading.Thread(target=load, name="loading", daemon=True).start()
        later: list[Happening] = []
        while (what := self._next_while_loading(engines)) is not loaded:
            if isinstance(what, str) and what != RELOAD.name:
                return True
            later.append(what)
        for what in later:
            self._happenings.put(what)
        loaded.result()
        return False

    def _next_while_loading(self, engines: Engines) -> Happening:
        """Return what happens next. A start that builds an engine, for nothing else can run, has time for that."""
        while True:
            with suppress(queue.Empty):
                return self._happenings.get(timeout=_BUSY_AGAIN_S)
            if engines.building and not self.started:
                self._systemd.busy(f"starting: {engines.building}")

    def _until_end(self, watch: Watch, engines: Engines) -> _End:
        while True:
            what = self._happenings.get()
            if what == RELOAD.name and self.options.reload is not None:
                if (end := self._reload(watch, engines, self.options.reload)) is not None:
                    return end
            elif isinstance(what, str):
                return _End("shutdown")
            elif isinstance(what, BaseException):
                return _End("failed", fault=what)
            elif isinstance(what, Ended) and what.camera in watch.cameras:
                if what.fault is not None:
                    return _End("failed", fault=what.fault)
                if (refused := watch.stop([what.camera], "end_of_stream")) and self.options.reload is None:
                    return _End("failed", fault=refused)
                if not watch.cameras:
                    return _End("end_of_stream")

    def _reload(self, watch: Watch, engines: Engines, load: Callable[[], RunOptions]) -> _End | None:
        """Take on new cameras; return an end when more than these is new, or at a stop. A bad file changes nothing."""
        self._systemd.reloading()
        try:
            options = load()
            if options.fixed != self.options.fixed:
                return _End("reload", following=options)
            if self._stopped_while_loading(options, engines):
                return _End("shutdown")
            done = watch.apply(complete(options.config))
        except AgentError as fault:
            log.error("reload: %s (the configuration before it stays)", fault)
            engines.keep({bundle_path(camera.config) for camera in watch.cameras})
            self._systemd.reloaded()
            return None
        self.options = options
        self._systemd.reloaded()
        log.warning("reloaded: %s", done)
        return None

    def _drain(self, outlet: Outlet, end: _End, drain_s: float) -> bool:
        """Deliver what is left for at most `drain_s`, or until another signal; return whether all arrived.

        A stop by a signal takes 3 s at most, and gives up on a broker that is away. A reload takes a second, and
        what happens meanwhile is left to the configuration that follows.
        """
        patience_s = _AWAY_S if end.reason == "shutdown" else inf
        seen_s = time.monotonic()
        most_s = {"reload": _RELOAD_DRAIN_S, "shutdown": _STOP_DRAIN_S}.get(end.reason, drain_s)
        deadline_s = seen_s + max(min(drain_s, most_s), _DRAIN_STEP_S)
        while (rest_s := deadline_s - time.monotonic()) > 0 and (end.following or not self._signalled()):
            if outlet.drain(min(_DRAIN_STEP_S, rest_s)):
                return True
            if outlet.publisher.state.connected:
                seen_s = time.monotonic()
            elif time.monotonic() - seen_s >= patience_s:
                return False
        return False

    def _signalled(self) -> bool:
        """Return whether another signal to stop came, and keep a fault; what else has happened is over."""
        seen = False
        while not self._happenings.empty():
            what = self._happenings.get()
            if isinstance(what, BaseException):
                self._late_fault = self._late_fault or what
            seen |= isinstance(what, str) and what != RELOAD.name
        return seen
