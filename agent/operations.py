"""What a running agent can be told to do, whoever asks: at its control socket, or over MQTT."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from agent.arguments import read_arguments, shown
from agent.config import Sampling
from agent.errors import UsageError
from agent.installing import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent import wire
    from agent.adopting import Adopting
    from agent.config import CameraConfig, Config
    from agent.installing import Installer

    Progress = Callable[[Mapping[str, object]], None]
    Edit = Callable[[CameraConfig, Config], CameraConfig]

LOCAL = frozenset({"model.adopt"})
"""Not for those who ask from outside: it says that the store has changed, which others can't know."""
NAMES = LOCAL | {
    "status",
    "reload",
    "camera.enable",
    "camera.disable",
    "sampling.set",
    "model.install",
    "model.rollback",
}
REMOTE = NAMES - LOCAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Powers:
    """What can be done with the agent at work; each may raise AgentError.

    `camera` changes the settings of a camera by its name, and returns them. Without `adopting` and `installer` the
    default model is not the store's, `unused` says why.
    """

    status: Callable[[], object]
    reload: Callable[[], str]
    camera: Callable[[str, Edit], wire.CameraSettings]
    adopting: Adopting | None = None
    installer: Installer | None = None
    unused: str = ""


class Operations:
    """The operations by name. `do` blocks until one is done; several may be at work at a time."""

    names = NAMES

    def __init__(self, powers: Powers) -> None:
        self._powers = powers
        self._table: dict[str, Callable[[Mapping[str, object], Progress], object]] = {
            "status": self._status,
            "reload": self._reload,
            "camera.enable": partial(self._switch, "camera.enable"),
            "camera.disable": partial(self._switch, "camera.disable"),
            "sampling.set": self._sample,
            "model.install": self._install,
            "model.rollback": self._roll_back,
            "model.adopt": self._adopt,
        }

    def do(self, name: str, args: Mapping[str, object], progress: Progress) -> object:
        """Do `name` and return what came of it, for JSON; `progress` hears how a long one goes. Raises AgentError."""
        if name not in self._table:
            raise UsageError(
                "unknown operation", seen=shown(name), fix=f"there is {', '.join(sorted(NAMES))}"
            )
        return self._table[name](args, progress)

    def _status(self, args: Mapping[str, object], _: Progress) -> object:
        read_arguments("status", args, _Nothing)
        return self._powers.status()

    def _reload(self, args: Mapping[str, object], _: Progress) -> object:
        read_arguments("reload", args, _Nothing)
        return {"reloaded": self._powers.reload()}

    def _switch(self, op: str, args: Mapping[str, object], _: Progress) -> object:
        def edit(camera: CameraConfig, _: Config) -> CameraConfig:
            return msgspec.structs.replace(camera, enabled=op == "camera.enable")

        name = read_arguments(op, args, _Camera).camera
        return _told(name, self._powers.camera(name, edit))

    def _sample(self, args: Mapping[str, object], _: Progress) -> object:
        settings = dict(args)
        camera = {"camera": settings.pop("camera")} if "camera" in settings else {}
        name = read_arguments("sampling.set", camera, _Camera).camera

        def edit(camera: CameraConfig, config: Config) -> CameraConfig:
            if not settings:
                return msgspec.structs.replace(camera, sampling=None)
            now = msgspec.structs.asdict(camera.sampling or config.sampling)
            return msgspec.structs.replace(
                camera, sampling=read_arguments("sampling.set", {**now, **settings}, Sampling)
            )

        return _told(name, self._powers.camera(name, edit))

    def _install(self, args: Mapping[str, object], progress: Progress) -> object:
        source = read_arguments("model.install", args, Source)
        self._models()
        if self._powers.installer is None:
            raise UsageError("model.install", seen=self._powers.unused)
        return self._powers.installer.install(source, progress)

    def _roll_back(self, args: Mapping[str, object], _: Progress) -> object:
        read_arguments("model.rollback", args, _Nothing)
        return {"model": self._models().roll_back("by command")}

    def _adopt(self, args: Mapping[str, object], _: Progress) -> object:
        read_arguments("model.adopt", args, _Nothing)
        return {"model": self._models().adopt()}

    def _models(self) -> Adopting:
        if self._powers.adopting is None:
            raise UsageError("the model store is not in use", seen=self._powers.unused)
        return self._powers.adopting


class _Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No arguments."""


class _Camera(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which camera."""

    camera: str


def _told(name: str, settings: wire.CameraSettings) -> object:
    return {"camera": name, "enabled": settings.enabled, "sampling": settings.sampling}
