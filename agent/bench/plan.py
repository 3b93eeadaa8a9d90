"""What is settled before the rounds begin: the clips, the model, how long the runs are, what they are made on."""

from __future__ import annotations

import contextlib
import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent import __version__
from agent.bench.clip import FRAMES, facts, own_clip, standard_clip, still_clip
from agent.bench.loops import bare, open_rig, plain
from agent.bench.report import Setting
from agent.drawing import require_opencv
from agent.errors import BadData, InputMissing
from agent.hardware import identify, read_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from agent.bench.clip import ClipFacts
    from agent.bench.figures import Run
    from agent.bench.loops import Rig
    from agent.hardware import Board

RUN_S = 2.0
"""A run of the bare engine is about as long, and all others have as many frames, if the clip does.

Short runs, many rounds: what a machine's other tenants take comes in bursts, and a short run fits between them.
"""
SAMPLED_HZ = 5.0
_WARM_UP, _FEWEST = 20, 20
_LIBRARIES = ("av", "numpy", "ai-edge-litert", "opencv-python-headless")


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure. Without a `source` the standard clip is made in `cache`, with `mbit_s`."""

    source: str | None
    model: Path
    cameras: int
    threads: int
    rounds: int
    mbit_s: float
    cache: Path


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured. `alone` is one pass without overlap; `opencv` is why there is none, if so."""

    options: Options
    rig: Rig
    clip: Path
    still: Path | None
    facts: ClipFacts
    frames: int
    limit_hz: float
    alone: Run
    opencv: InputMissing | None
    machine: Board

    @property
    def every_n(self) -> int:
        """Which frames of the clip make 5 inferences a second."""
        return max(1, round(self.facts.frame_rate_hz / SAMPLED_HZ))

    @property
    def bare_s(self) -> float:
        """About how long a run of the bare engine takes."""
        return self.frames / self.limit_hz


def make_plan(options: Options, tell: Callable[[str], None]) -> Plan:
    """Get the clips, open the model, and find out how long the runs should be. Raises AgentError."""
    rig = open_rig(options.model, threads=options.threads)
    if options.source is None:
        tell(f"test clip of {FRAMES} frames in {options.cache} (the first time it takes a moment) ...")
        clip = standard_clip(options.cache, options.mbit_s)
        still = still_clip(options.cache, options.mbit_s)
    else:
        clip, still = own_clip(options.source), None
    bare(rig, _WARM_UP)
    limit_hz = bare(rig, _WARM_UP).rate_hz
    alone = plain(rig, clip, min(FRAMES, max(2 * _FEWEST, round(RUN_S * limit_hz))))
    if alone.inferred < _FEWEST:
        fix = f"give one of {_FEWEST} or more"
        raise BadData("clip too short to measure", seen=f"{alone.inferred} frames", fix=fix)
    plan = Plan(
        options=options,
        rig=rig,
        clip=clip,
        still=still,
        facts=facts(clip),
        frames=alone.inferred,
        limit_hz=limit_hz,
        alone=alone,
        opencv=_opencv_fault(),
        machine=identify(read_facts()),
    )
    tell(_describe(plan))
    return plan


def _describe(plan: Plan) -> str:
    info, clip, machine = plan.rig.engine.info, plan.facts, plan.machine
    return (
        f"{machine.name}, {machine.cpu or machine.machine}, {machine.usable_cpus} of {machine.cores} cores\n"
        f"{plan.rig.bundle.manifest.name} on {info.backend}, {info.precision}, {info.threads} thread(s), "
        f"{info.delegated_nodes} delegate(s) for {info.nodes} operators\n"
        f"{clip.name}: {clip.width_px}x{clip.height_px} {clip.codec}, {plan.frames} frames a run, "
        f"{plan.options.rounds} rounds"
    )


def setting_of(plan: Plan, started: str) -> Setting:
    """Return what the report tells of all this."""
    return Setting(
        version=__version__,
        started=started,
        machine=plan.machine,
        libraries=dict(_libraries(_LIBRARIES)),
        model=plan.rig.bundle.manifest.name,
        engine=plan.rig.engine.info,
        clip=plan.facts,
        frames=plan.frames,
        rounds=plan.options.rounds,
        cameras=plan.options.cameras,
        baseline="plain" if plan.opencv else "naive",
        notes=(str(plan.opencv),) if plan.opencv else (),
    )


def _libraries(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)


def _opencv_fault() -> InputMissing | None:
    try:
        require_opencv("naive_fps")
    except InputMissing as fault:
        return fault
    return None
