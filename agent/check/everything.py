"""The order of the checks: what is quick first, models alone, then the broker and all cameras at once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from agent.check import (
    board,
    broker,
    camera,
    clock,
    devices,
    disk,
    load,
    metrics,
    model,
    picture,
    quantized,
    verdict,
)
from agent.check.finding import Finding, fault, fault_of, ok, skipped, warning
from agent.check.runner import Check, run_together
from agent.check.target import from_config
from agent.choosing import Chooser
from agent.config.load import load_config
from agent.errors import AgentError
from agent.hardware import usable_cpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent.check.camera import Observation
    from agent.check.model import OpenModel
    from agent.check.target import CameraTarget, Target

_MODEL_LIMIT_S = 60.0
_PICTURE_LIMIT_S = 15.0
_HANGS_CAMERA = "check the address and the network; ping the camera"
_HANGS_DISK = "the disk or network share does not answer: check its cable, power and the kernel's log"


def read_config(
    path: Path, *, device: str, state_dir: Callable[[], Path], threads: int | None
) -> tuple[Finding, Target | None]:
    """Return the row of the configuration file, and what it says; None when it is no good."""
    try:
        config = load_config(path)
        target = from_config(config, device=device, state_dir=state_dir, threads=threads)
    except AgentError as error:
        return fault_of("config", error), None
    names = ", ".join(each.name for each in target.cameras) or "none"
    if not target.watched:
        return fault(
            "config", f"{path}: no camera is enabled ({names})", fix="add or enable a [[camera]]"
        ), target
    return ok("config", f"{path}: cameras {names}"), target


class Examination:
    """All checks of one `target`; `run` yields their rows as they come in. With `save`, pictures go there."""

    def __init__(self, target: Target, *, save: Path | None = None) -> None:
        self._target, self._save = target, save
        self._models: dict[Path, OpenModel] = {}
        self._seen: dict[str, Observation] = {}

    def run(self) -> Iterator[Finding]:
        """Yield every row. Faults are rows; nothing is raised."""
        target = self._target
        try:
            yield from run_together(self._quick())
            for path in target.models:  # one by one: their times are to be told
                yield from run_together(
                    [Check(model.what_of(path), partial(self._model, path), _MODEL_LIMIT_S)]
                )
            yield from self._not_tried()
            yield from run_together([*self._broker(), *map(self._camera, target.watched)])
            yield from load.estimate(self._demands(), cores=usable_cpus())
            yield from self._pictures()
        finally:
            for opened in self._models.values():
                opened.engine.close()

    def _quick(self) -> list[Check]:
        target = self._target
        return [
            Check(board.WHAT, board.check, board.LIMIT_S),
            Check(clock.WHAT, clock.check, clock.LIMIT_S),
            Check(
                disk.WHAT,
                lambda: disk.check(target.state_dir, max_bytes=target.outbox_max_bytes),
                disk.LIMIT_S,
                _HANGS_DISK,
            ),
            Check(devices.WHAT, lambda: devices.check(target.watched), devices.LIMIT_S),
            *self._metrics(),
        ]

    def _metrics(self) -> list[Check]:
        address, device = self._target.metrics, self._target.device
        if address is None:
            return []
        return [Check(metrics.WHAT, lambda: metrics.check(address, device=device), metrics.LIMIT_S)]

    def _model(self, path: Path) -> list[Finding]:
        target = self._target
        chooser = Chooser.here(target.state_dir, threads=target.threads)
        opened = model.open_and_time(path, chooser=chooser, trust=target.trust)
        self._models[path] = opened
        users = [each for each in target.watched if each.model == path]
        told = [warning(model.what_of(path), line, fix="") for line in chooser.warnings(opened.bundle)]
        return [*model.judge(opened), *told, *quantized.check(opened), *model.settings(opened, users)]

    def _not_tried(self) -> Iterator[Finding]:
        """Yield the rows of what lacks its login, or is not wanted."""
        target = self._target
        for each in target.cameras:
            if not each.enabled:
                yield skipped(each.what, "not enabled")
            elif each.trouble is not None:
                yield fault_of(each.what, each.trouble)
        if target.mqtt_trouble is not None:
            yield fault_of(broker.WHAT, target.mqtt_trouble)
        elif target.mqtt is None:
            yield skipped(broker.WHAT, "none is given")
            yield disk.sink(target.sink)

    def _broker(self) -> list[Check]:
        options, base = self._target.mqtt, self._target.topics.base
        if options is None:
            return []
        fix = "check the host name and this device's DNS"
        return [Check(broker.WHAT, lambda: broker.check(options, base=base), broker.limit_s(options), fix)]

    def _camera(self, each: CameraTarget) -> Check:
        def look() -> list[Finding]:
            seen = camera.observe(each)
            self._seen[each.name] = seen
            return verdict.judge(each, seen)

        return Check(each.what, look, camera.limit_s(each), _HANGS_CAMERA)

    def _both(self) -> Iterator[tuple[CameraTarget, Observation, OpenModel]]:
        """Yield the cameras that gave a picture, where their model works."""
        for each in self._target.watched:
            seen, opened = self._seen.get(each.name), self._models.get(each.model)
            if seen is not None and seen.frame is not None and opened is not None:
                yield each, seen, opened

    def _demands(self) -> list[load.Demand]:
        return [
            load.Demand(
                verdict.asked_hz(each.sampling, seen.rate_hz),
                opened.infer_ms,
                opened.cpu_ms,
                verdict.decode_share(seen),
            )
            for each, seen, opened in self._both()
        ]

    def _pictures(self) -> Iterator[Finding]:
        if self._save is None:
            return
        for each, seen, opened in self._both():
            draw = partial(_picture, self._save, each, seen, opened)
            yield from run_together([Check(_picture_of(each), draw, _PICTURE_LIMIT_S)])


def _picture(folder: Path, each: CameraTarget, seen: Observation, opened: OpenModel) -> list[Finding]:
    path, objects = picture.save(folder, each, seen, opened)
    return [ok(_picture_of(each), f"{path}: {objects} {'object' if objects == 1 else 'objects'} that count")]


def _picture_of(each: CameraTarget) -> str:
    return f"{picture.WHAT} {each.name}"
