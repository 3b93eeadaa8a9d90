"""One configuration at work, from opening its models to the last message: cameras may change, the rest may not."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from agent.adopting import Adopting
from agent.camera import CameraOptions, Ended
from agent.draining import drain
from agent.errors import AgentError, TryAgain
from agent.happenings import Asked, Failed, MainThread
from agent.installing import Installer
from agent.loading import stopped_while_loading
from agent.monitor import Monitor
from agent.operations import Operations, Powers
from agent.overrides import Overrides
from agent.reconfiguring import End, Reconfiguring
from agent.sampling import full_rate
from agent.serving import serve
from agent.signals import RELOAD
from agent.throttle import Throttle
from agent.watch import Watch, complete

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent import wire
    from agent.config import CameraConfig
    from agent.happenings import Happenings
    from agent.lastwords import LastWords
    from agent.operations import Edit
    from agent.pipeline import Result
    from agent.runoptions import RunOptions
    from agent.systemd import Systemd

log = logging.getLogger(__name__)

_UNUSED = "the configuration names the model: take `model` out of it, or run with a configuration"


class Service:
    """One configuration at work. `started` once its cameras run.

    `options` is at the end as the last reload left it.
    """

    def __init__(
        self,
        options: RunOptions,
        recorders: Sequence[Callable[[Result], None]],
        happenings: Happenings,
        systemd: Systemd,
        words: LastWords,
    ) -> None:
        self.options, self._recorders, self._happenings = options, recorders, happenings
        self._systemd, self._words, self._throttle = systemd, words, Throttle()
        self.started = False
        self._default = options.default_model()
        self._main = MainThread(happenings)
        self._late_fault: BaseException | None = None

    def run(self) -> RunOptions | None:
        """Run to the end; return what is to run instead, if that is why it ended. Raises AgentError."""
        options = self.options
        self._systemd.busy("starting: models and outbox are opened")
        with ExitStack() as stack:
            stack.callback(self._main.close)
            try:
                self.started = self._begun(stack)
            except AgentError:  # the model would have made way for another one, were it to blame
                self._leave_model()
                raise
            if not self.started:
                self._systemd.stopping("shutdown")
                self._leave_model()
                return None
            self._systemd.reloaded()
            monitor = self._watched(stack)
            end = self._until_end()
            self.options = self._reconfiguring.options
            monitor.leave()
            if end.following is None:
                self._systemd.stopping(end.reason)
            self._watch.stop(self._watch.cameras, end.reason)
            if end.fault is None:
                self._leave_model()
            hurried = (lambda: False) if end.following else self._signalled
            drained = drain(
                self._outlet,
                end.reason,
                options.config.limits.drain_s if self._watch.inferred else 0.0,
                hurried,
            )
            waiting, reason = self._outlet.waiting(), self._outlet.publisher.state.last_error
        if end.following is None:
            self._signalled()  # an engine may have failed on the last frames
        if (fault := end.fault or self._late_fault) is not None:
            raise fault
        if end.following is None and waiting and not drained:
            raise options.undelivered(waiting, reason)
        return end.following

    # -- what it is made of --

    def _begun(self, stack: ExitStack) -> bool:
        """Open models and outbox, and start the cameras; return whether no stop was asked for. Raises AgentError."""
        options = self.options
        overrides = Overrides(options.state_dir if options.reload is not None else None)
        self._engines = stack.enter_context(options.open_engines(self._engine_failed, self._default))
        if self._stopped_while_loading(complete(overrides.over(options.config))):
            return False
        self._outlet = stack.enter_context(options.open_outlet(self._words.last))
        self._watch = self._new_watch(stack)
        self._reconfiguring = Reconfiguring(
            options,
            overrides,
            self._watch,
            self._engines,
            self._outlet,
            load=self._stopped_while_loading,
            systemd=self._systemd,
        )
        self._reconfiguring.begin()
        return True

    def _leave_model(self) -> None:
        if self._default is not None:
            self._default.leave()

    def _new_watch(self, stack: ExitStack) -> Watch:
        options = self.options
        files = options.open_files(self._engines, stack)
        floor = options.min_score if options.detections else 1.0
        return Watch(
            self._engines,
            self._outlet,
            CameraOptions(
                pace=options.pace,
                min_score=floor,
                retry=options.reload is not None,
                budget=full_rate if options.pace == "fastest" else lambda: self._throttle.budget.factor,
            ),
            ended=self._happenings.put,
            recorders=[*self._recorders, *files],
        )

    def _watched(self, stack: ExitStack) -> Monitor:
        """Have the agent judged once a second, and those answered who ask, until `stack` is closed."""
        options, state_dir = self.options, self.options.state_dir.absolute()
        stack.callback(self._systemd.busy, "reloading: the configuration before is left")
        monitor = stack.enter_context(
            Monitor(
                self._watch,
                self._engines,
                self._outlet,
                state_dir=state_dir,
                systemd=self._systemd,
                throttle=self._throttle,
                words=self._words,
                default=self._default,
                named=options.default_bundle,
            )
        )
        adopting = installer = None
        if self._default is not None:
            models = options.config.models
            adopting = stack.enter_context(Adopting(self._default, self._engines, models, self._main.do))
            installer = Installer(state_dir, models)
        powers = Powers(
            status=monitor.status,
            reload=self._reload_asked,
            camera=self._change_asked,
            adopting=adopting,
            installer=installer,
            unused=_UNUSED,
        )
        serve(
            Operations(powers),
            monitor,
            self._outlet,
            configuration=lambda: self._reconfiguring.options.config,
            state_dir=state_dir,
            stack=stack,
        )
        if installer is not None:
            stack.callback(installer.close)  # before those who wait for it
        return monitor

    def _stopped_while_loading(self, cameras: Sequence[CameraConfig]) -> bool:
        """Open the models of `cameras`; return whether a stop was asked for meanwhile. Raises AgentError."""

        def busy(what: str) -> None:
            if not self.started:
                self._systemd.busy(f"starting: {what}")

        return stopped_while_loading(cameras, self._engines, self._happenings, busy)

    # -- what happens --

    def _until_end(self) -> End:
        while True:
            what, end = self._happenings.get(), None
            if what == RELOAD.name and self.options.reload is not None:
                end = self._reloaded()
            elif isinstance(what, str):
                end = End("shutdown")
            elif isinstance(what, Failed):
                end = End("failed", fault=what.fault)
            elif isinstance(what, Ended):
                end = self._camera_ended(what)
            elif isinstance(what, Asked):
                end = done if isinstance(done := what.serve(), End) else None
            if end is not None:
                return end

    def _camera_ended(self, what: Ended) -> End | None:
        if what.camera not in self._watch.cameras:
            return None
        if what.fault is not None:
            return End("failed", fault=what.fault)
        refused = self._watch.stop([what.camera], "end_of_stream")
        if refused and self.options.reload is None:
            return End("failed", fault=refused)
        return None if self._watch.cameras else End("end_of_stream")

    def _reloaded(self) -> End | None:
        """Do what SIGHUP asks for. A bad file changes nothing."""
        try:
            done = self._reconfiguring.reload()
        except AgentError as fault:
            log.error("reload: %s (the configuration before it stays)", fault)
            return None
        return done if isinstance(done, End) else None

    # -- other threads --

    def _engine_failed(self, fault: BaseException) -> None:
        self._happenings.put(Failed(fault))

    def _reload_asked(self) -> str:
        done: str | End = self._main.do(self._reconfiguring.reload)
        if isinstance(done, str):
            return done
        if done.following is None:
            raise TryAgain("the agent ends")
        return f"more than cameras is new: starting anew as {done.following.config.device}"

    def _change_asked(self, name: str, edit: Edit) -> wire.CameraSettings:
        done: wire.CameraSettings | End = self._main.do(partial(self._reconfiguring.change, name, edit))
        if isinstance(done, End):
            raise TryAgain("the agent ends")
        return done

    def _signalled(self) -> bool:
        """Return whether another signal to stop came, and keep a fault; what else has happened is over."""
        seen = False
        while not self._happenings.empty():
            what = self._happenings.get()
            if isinstance(what, Failed):
                self._late_fault = self._late_fault or what.fault
            elif isinstance(what, Asked):
                what.refuse()
            seen |= isinstance(what, str) and what != RELOAD.name
        return seen
