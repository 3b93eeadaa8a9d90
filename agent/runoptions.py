"""What `run` was asked for, and what follows from that: where messages go, which files are written beside them."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent.bundle import NOBODY
from agent.defaultmodel import DefaultModel
from agent.engines import Engines
from agent.errors import IOFault, TryAgain
from agent.hardware import default_threads
from agent.measured.store import FOLDER as TUNED
from agent.modelstore import FOLDER as MODELS
from agent.modelstore import ModelStore
from agent.outlet import open_outlet
from agent.reporting import DetectionLog, MotLog
from agent.watch import bundle_path, complete

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager, ExitStack

    from agent.bundle import Trust
    from agent.capture import Pace
    from agent.choosing import Chooser
    from agent.config import Config
    from agent.errors import AgentError
    from agent.mqtt.options import MqttOptions
    from agent.outlet import Outlet
    from agent.payloads import LastEnd
    from agent.pipeline import Result

_OF_CAMERAS = ("camera", "model", "sampling", "detect")
"""Settings that may change while cameras run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What `run` was asked for. `config` has a device and a state directory; without a `broker` its `sink` is used.

    `threads` None: as many as were measured best, else all cores but one. The facts of the device are read below
    `root`.

    With `reload`, the service: a camera's fault is waited out, and SIGHUP runs what `reload` returns. Without,
    one command: a camera's fault is its end.
    """

    config: Config
    trust: Trust = NOBODY
    broker: MqttOptions | None = None
    threads: int | None = None
    pace: Pace = "realtime"
    detections: Path | None = None
    mot: Path | None = None
    min_score: float = 0.05
    root: Path = Path("/")
    reload: Callable[[], RunOptions] | None = None

    @property
    def state_dir(self) -> Path:
        """Where the outbox and the last words lie."""
        return Path(self.config.state_dir or ".")

    @property
    def fixed(self) -> tuple[object, ...]:
        """What can't change while cameras run."""
        settings = msgspec.structs.asdict(self.config)
        of_all = [value for key, value in settings.items() if key not in _OF_CAMERAS]
        return *of_all, self.trust, self.broker, self.threads

    @property
    def keeps_state(self) -> bool:
        """Whether anything lasting lies in the state directory."""
        return self.reload is not None or self.broker is not None or self.config.sink != "-"

    @property
    def default_bundle(self) -> Path | None:
        """The bundle that the configuration names for cameras that name none."""
        return Path(self.config.model) if self.config.model else None

    def default_model(self) -> DefaultModel | None:
        """Return that of the model store; None for one command, and where the configuration names a model."""
        if self.reload is None or self.config.model is not None:
            return None
        threads = self.threads or default_threads()
        return DefaultModel(ModelStore(self.state_dir / MODELS), threads=threads)

    @property
    def on_trial(self) -> bool:
        """Whether a model runs that has yet to show that it works: three starts at most are in vain then."""
        if self.reload is None or self.config.model is not None:
            return False
        return ModelStore(self.state_dir / MODELS).on_trial

    def open_engines(
        self, tell: Callable[[BaseException], None], default: DefaultModel | None = None
    ) -> Engines:
        """Return the table of engines, empty, for this device; `tell` hears of their faults.

        Without a `default` cameras that name no model run the starter.
        """
        return Engines(
            eager=self.pace == "fastest",
            tell=tell,
            threads=self.threads or default_threads(),
            trust=self.trust,
            find=self._find_chooser,
            default=default,
        )

    def _find_chooser(self) -> Chooser | None:
        """Look at this device; return None where there is nothing to choose or to tell of.

        That is no TensorRT, no Jetson, where it is missed, and nothing measured.
        """
        jetson, tuned = self.root / "etc/nv_tegra_release", self.state_dir / TUNED
        if importlib.util.find_spec("tensorrt") is None and not any(
            os.access(path, os.R_OK) for path in (jetson, tuned)
        ):
            return None
        from agent.choosing import Chooser  # who has nothing to choose needs nothing of it

        return Chooser.here(self.state_dir, threads=self.threads, root=self.root)

    def open_outlet(self, last_end: LastEnd | None) -> AbstractContextManager[Outlet]:
        """Open the way out; births tell of `last_end`. Raises CannotCreate, TryAgain, BadConfig."""
        config = self.config
        return open_outlet(
            device=config.device or "edge",
            topic_root=config.topic_root,
            broker=self.broker,
            sink=config.sink,
            state_dir=self.state_dir,
            max_bytes=config.outbox.max_mbytes << 20,
            sd_saver=config.outbox.sd_saver,
            last_end=last_end,
        )

    def open_files(self, engines: Engines, stack: ExitStack) -> list[Callable[[Result], None]]:
        """Open the files asked for; each is closed with `stack`. Raises CannotCreate."""
        files: list[DetectionLog | MotLog] = []
        if self.detections is not None:
            labels = {c.name: engines.room(bundle_path(c)).bundle.labels for c in complete(self.config)}
            files.append(DetectionLog(self.detections, labels, self.min_score))
        if self.mot is not None:
            files.append(MotLog(self.mot))
        for file in files:
            stack.callback(file.close)
        return [file.write for file in files]

    def undelivered(self, waiting: int, reason: str) -> AgentError:
        """Return what to tell of `waiting` messages that are left at the end."""
        what = f"messages not delivered ({reason or 'no answer in time'})"
        if self.broker is None and self.config.sink == "-":
            fix = "use --sink FILE or --broker to keep what can't be sent"
            return IOFault(what, seen=f"{waiting} lost", fix=fix)
        fix = f"they are kept in {self.config.state_dir} and go out at the next start"
        return TryAgain(what, seen=f"{waiting} of this run", fix=fix)
