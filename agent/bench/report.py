"""Everything that a bench found out, as one document: the figures by name, their spread, and the raw rounds."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import msgspec

from agent.bench.clip import ClipFacts  # noqa: TC001 - msgspec reads the types
from agent.bench.figures import (
    Round,
    Run,
    Spread,
    Times,
    other_cpu_ms,
    rate_hz,
    ratio_spread,
    spread,
)
from agent.hardware import Board  # noqa: TC001 - msgspec reads the types
from agent.messages import EngineInfo  # noqa: TC001 - msgspec reads the types

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PIPELINE, BASELINE, SAMPLED, GRAB, CAMERAS = "pipeline", "baseline", "sampled", "grab", "cameras"
IDLE, IDLE_PACED = "idle", "idle_paced"
NEVER_IDLE = "no figure of {}: the agent did not fall idle there, or not for long enough"


class Setting(msgspec.Struct, frozen=True):
    """What was measured, where and how. `baseline` is "naive" (OpenCV) or "plain" (the agent's parts in one loop)."""

    version: str
    started: str
    machine: Board
    libraries: dict[str, str]
    model: str
    engine: EngineInfo
    clip: ClipFacts
    frames: int
    rounds: int
    cameras: int
    baseline: str
    notes: tuple[str, ...] = ()


class Raw(msgspec.Struct, frozen=True):
    """The runs themselves.

    `alone`: one pass without overlap; `paced`: one at real-time pace. `sampled` has the OpenCV loop with grab
    among its runs, `idle_paced` is as `idle` with frames at a camera's pace. `shared` has the rounds of one camera
    (the references) against several, each run in a process of its own.
    """

    alone: Run
    paced: Run
    rates: tuple[Round, ...]
    sampled: tuple[Round, ...]
    idle: tuple[Round, ...]
    idle_paced: tuple[Round, ...]
    shared: tuple[Round, ...]
    start_s: tuple[float, ...]
    peak_rss_mb: float | None


class Report(msgspec.Struct, frozen=True):
    """The figures; None where they could not be had, which `setting.notes` explains.

    Rates are inferences a second; `efficiency` is the pipeline's as a share of the engine's beside it.
    `cpu_ms_per_frame` is processor time per source frame without the engine's, with every frame inferred;
    the sampled one is at 5 inferences a second, against the naive loop at the same, and against that loop when
    it does not convert what it does not infer (`grab`). The idle one is of a camera that watches a still scene,
    and has for a while: as fast as frames can be read, and (`idle_paced`) at the pace of a camera, which leaves
    more time for the processor to sleep and to wake.
    """

    setting: Setting
    engine_limit_fps: float
    pipeline_fps: float
    efficiency: float
    naive_fps: float | None
    plain_fps: float | None
    baseline_efficiency: float
    cpu_ms_per_frame: float
    sampled_cpu_ms_per_frame: float
    sampled_cpu_vs_naive: float | None
    grab_cpu_ms_per_frame: float | None
    sampled_cpu_vs_grab: float | None
    idle_cpu_ms_per_frame: float | None
    idle_cpu_vs_naive: float | None
    idle_paced_cpu_ms_per_frame: float | None
    idle_paced_cpu_vs_naive: float | None
    stages: dict[str, Times]
    stages_alone: dict[str, Times]
    drops: dict[str, int]
    age: Times | None
    peak_rss_mb: float | None
    startup_s: float
    cameras_rate: float | None
    fairness: float | None
    rss_mb_per_further_camera: float | None
    spreads: dict[str, Spread]
    raw: Raw


def summarise(setting: Setting, raw: Raw) -> Report:
    """Work the figures out of the runs; there is none of idle where the agent was not, and a note of that."""
    awake = tuple(
        NEVER_IDLE.format(text)
        for name, text in ((IDLE, "idle"), (IDLE_PACED, "idle at camera pace"))
        if not _idled(raw, name)
    )
    setting = msgspec.structs.replace(setting, notes=setting.notes + awake)
    spreads = _spreads(raw)
    medians = {name: one.median for name, one in spreads.items()}
    naive = setting.baseline == "naive"
    return Report(
        setting=setting,
        engine_limit_fps=medians["engine_limit_fps"],
        pipeline_fps=medians["pipeline_fps"],
        efficiency=medians["efficiency"],
        naive_fps=medians["baseline_fps"] if naive else None,
        plain_fps=None if naive else medians["baseline_fps"],
        baseline_efficiency=medians["baseline_efficiency"],
        cpu_ms_per_frame=medians["cpu_ms_per_frame"],
        sampled_cpu_ms_per_frame=medians["sampled_cpu_ms_per_frame"],
        sampled_cpu_vs_naive=medians.get("sampled_cpu_vs_naive"),
        grab_cpu_ms_per_frame=medians.get("grab_cpu_ms_per_frame"),
        sampled_cpu_vs_grab=medians.get("sampled_cpu_vs_grab"),
        idle_cpu_ms_per_frame=medians.get("idle_cpu_ms_per_frame"),
        idle_cpu_vs_naive=medians.get("idle_cpu_vs_naive"),
        idle_paced_cpu_ms_per_frame=medians.get("idle_paced_cpu_ms_per_frame"),
        idle_paced_cpu_vs_naive=medians.get("idle_paced_cpu_vs_naive"),
        stages=_median_times([one.runs[PIPELINE] for one in raw.rates]),
        stages_alone=raw.alone.times,
        drops=raw.paced.drops,
        age=raw.paced.times.get("age"),
        peak_rss_mb=raw.peak_rss_mb,
        startup_s=statistics.median(raw.start_s),
        cameras_rate=medians.get("cameras_rate"),
        fairness=medians.get("fairness"),
        rss_mb_per_further_camera=_per_further_camera(raw.shared),
        spreads=spreads,
        raw=raw,
    )


def _spreads(raw: Raw) -> dict[str, Spread]:
    found = {
        "engine_limit_fps": spread(raw.rates, lambda r: statistics.median(map(rate_hz, r.references))),
        "pipeline_fps": spread(raw.rates, _of(PIPELINE, rate_hz)),
        "efficiency": ratio_spread(raw.rates, PIPELINE, rate_hz),
        "baseline_fps": spread(raw.rates, _of(BASELINE, rate_hz)),
        "baseline_efficiency": ratio_spread(raw.rates, BASELINE, rate_hz),
        "cpu_ms_per_frame": spread(raw.rates, _of(PIPELINE, other_cpu_ms)),
    }
    for name, rounds in ((SAMPLED, raw.sampled), (IDLE, raw.idle), (IDLE_PACED, raw.idle_paced)):
        if not _idled(raw, name):
            continue
        if rounds:
            found[f"{name}_cpu_ms_per_frame"] = spread(rounds, _of(name, other_cpu_ms))
        if rounds and rounds[0].references:
            found[f"{name}_cpu_vs_naive"] = ratio_spread(rounds, name, other_cpu_ms)
    if raw.sampled and GRAB in raw.sampled[0].runs:
        ours, theirs = _of(SAMPLED, other_cpu_ms), _of(GRAB, other_cpu_ms)
        found["grab_cpu_ms_per_frame"] = spread(raw.sampled, theirs)
        found["sampled_cpu_vs_grab"] = spread(raw.sampled, lambda one: ours(one) / theirs(one))
    if raw.shared:
        found["cameras_rate"] = ratio_spread(raw.shared, CAMERAS, rate_hz)
        found["fairness"] = spread(raw.shared, _of(CAMERAS, lambda run: run.fairness))
    return found


def _idled(raw: Raw, name: str) -> bool:
    """Tell whether the runs `name`, if they are of idle, were in idle."""
    rounds = {IDLE: raw.idle, IDLE_PACED: raw.idle_paced}.get(name, ())
    return all(one.runs[name].idled for one in rounds)


def _of(name: str, value: Callable[[Run], float]) -> Callable[[Round], float]:
    return lambda one: value(one.runs[name])


def _median_times(runs: Sequence[Run]) -> dict[str, Times]:
    """Return for each stage the median over `runs` of its mean and quantiles."""
    return {
        name: Times(
            *(
                statistics.median(getattr(run.times[name], field) for run in runs)
                for field in Times.__struct_fields__
            )
        )
        for name in runs[0].times
    }


def _per_further_camera(shared: Sequence[Round]) -> float | None:
    one = [run.peak_rss_mb for round_ in shared for run in round_.references]
    several = [round_.runs[CAMERAS] for round_ in shared]
    known = [mb for mb in one if mb is not None]
    more = [run.peak_rss_mb for run in several if run.peak_rss_mb is not None]
    if not known or not more:
        return None
    further = len(several[0].per_camera) - 1
    return (statistics.median(more) - statistics.median(known)) / further
