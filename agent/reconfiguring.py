"""Other cameras, or other settings of them, while the agent runs: by the configuration read again, or by a command."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from agent.errors import AgentError, UsageError
from agent.overrides import settings_of
from agent.watch import bundle_path, complete

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent import wire
    from agent.config import CameraConfig
    from agent.engines import Engines
    from agent.operations import Edit
    from agent.outlet import Outlet
    from agent.overrides import Overrides
    from agent.runoptions import RunOptions
    from agent.systemd import Systemd
    from agent.watch import Watch

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class End:
    """Why a configuration is no longer at work; `reason` is what its open events are told."""

    reason: str
    fault: BaseException | None = None
    following: RunOptions | None = None


class Reconfiguring:
    """Has the `watch` run the cameras of `options` with the `overrides`, and others when told to; for the main thread.

    `load` opens the models of cameras, and returns whether a stop was asked for meanwhile; it may raise AgentError.
    """

    def __init__(
        self,
        options: RunOptions,
        overrides: Overrides,
        watch: Watch,
        engines: Engines,
        outlet: Outlet,
        *,
        load: Callable[[Sequence[CameraConfig]], bool],
        systemd: Systemd,
    ) -> None:
        self.options, self._overrides = options, overrides
        self._watch, self._engines, self._outlet = watch, engines, outlet
        self._load, self._systemd = load, systemd

    def begin(self) -> None:
        """Start the cameras, whose models are open. Raises AgentError."""
        self._watch.apply(complete(self._overrides.over(self.options.config)))
        self._tell()

    def reload(self) -> str | End:
        """Take on new cameras; return what was done, or an end when more than these is new, or at a stop.

        Raises AgentError, with nothing changed.
        """
        if self.options.reload is None:
            fix = "run with --config to have something to read again"
            raise UsageError("there is no configuration to reload", fix=fix)
        self._systemd.reloading()
        try:
            options = self.options.reload()
            if options.fixed != self.options.fixed:
                return End("reload", following=options)
            cameras = complete(self._overrides.over(options.config))
            if self._load(cameras):
                return End("shutdown")
            done = self._watch.apply(cameras)
        except AgentError:
            self._engines.keep({bundle_path(camera.config) for camera in self._watch.cameras})
            raise
        finally:
            self._systemd.reloaded()
        before, self.options = self.options, options
        self._tell([camera.name for camera in before.config.camera])
        log.warning("reloaded: %s", done)
        return done

    def change(self, name: str, edit: Edit) -> wire.CameraSettings | End:
        """Change the settings of a camera, now and for later starts. Raises AgentError, with nothing changed."""
        config = self._overrides.over(self.options.config)
        known = {camera.name: camera for camera in self.options.config.camera}
        if name not in known:
            raise UsageError("no such camera", seen=repr(name[:64]), fix=f"there is {', '.join(known)}")
        camera = next(each for each in config.camera if each.name == name)
        after = self._overrides.usual(known[name], edit(camera, config))
        wanted = complete(msgspec.structs.replace(config, camera=(after,)))
        if camera.enabled or not after.enabled:
            here = {each.config.name for each in self._watch.cameras}
            wanted = wanted if name in here else []
        elif self._load(wanted):
            return End("shutdown")
        self._overrides.put(known[name], self.options.config, after)
        others = [each.config for each in self._watch.cameras if each.config.name != name]
        log.warning("by command: %s", self._watch.apply([*others, *wanted], "disabled"))
        self._tell()
        return settings_of(after, config)

    def _tell(self, before: Sequence[str] = ()) -> None:
        """Tell how each camera is set, of those `before` that are gone that they are."""
        config, topics = self._overrides.over(self.options.config), self._outlet.topics
        told = {camera.name: settings_of(camera, config) for camera in config.camera}
        for name in {*before, *told}:
            payload = msgspec.json.encode(told[name]) if name in told else b""
            self._outlet.publisher.retain(topics.camera_settings(name), payload)
        self._overrides.tell(self.options.config)
