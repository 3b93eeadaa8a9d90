"""Runs and reports made up for tests."""

from __future__ import annotations

from agent.bench.clip import ClipFacts
from agent.bench.figures import Round, Run, Times
from agent.bench.report import (
    BASELINE,
    CAMERAS,
    GRAB,
    IDLE,
    IDLE_PACED,
    PIPELINE,
    SAMPLED,
    Raw,
    Report,
    Setting,
    summarise,
)
from agent.hardware import identify, read_facts
from agent.messages import EngineInfo

STAGES = {name: Times(2.0, 1.5, 4.0) for name in ("decode", "prepare", "infer", "finish")}


def run(
    rate_hz: float = 50.0,
    *,
    steal: float | None = 0.0,
    cpu_ms: float = 5.0,
    cameras: tuple[int, ...] = (),
    not_decoded: int = 0,
) -> Run:
    """Return a run of 100 frames at `rate_hz`."""
    return Run(
        frames=100,
        inferred=100,
        wall_s=100 / rate_hz,
        engine_cpu_s=1.0,
        other_cpu_s=cpu_ms / 10,
        steal=steal,
        times=STAGES,
        not_decoded=not_decoded,
        per_camera=cameras,
        peak_rss_mb=100.0,
    )


def rates(pipeline_hz: float, *, bare_hz: float = 100.0, steal: float | None = 0.0) -> Round:
    """Return a round of the pipeline and the baseline against the bare engine."""
    bare = run(bare_hz, steal=0.0)
    return Round((bare,) * 3, {PIPELINE: run(pipeline_hz, steal=steal), BASELINE: run(60.0)})


def report(
    *, opencv: bool = True, cameras: int = 4, not_decoded: int = 98, steal: float | None = 0.1
) -> Report:
    """Return a report of two rounds, one of them disturbed."""
    grab = {GRAB: run(cpu_ms=8.0)} if opencv else {}
    last = (run(cpu_ms=10.0),) if opencv else ()
    loop = (run(cpu_ms=10.0),) * 2 if opencv else ()
    shared = Round((run(), run()), {CAMERAS: run(49.0, cameras=(25,) * (cameras - 1) + (24,))})
    setting = Setting(
        version="0.1.0",
        started="2026-01-01T00:00:00+00:00",
        machine=identify(read_facts()),
        libraries={},
        model="a-model",
        engine=EngineInfo("litert-xnnpack", "int8", 1, 1, 100),
        clip=ClipFacts("clip.mp4", 1920, 1080, "h264", 25.0, 1.0),
        frames=100,
        rounds=2,
        cameras=cameras,
        baseline="naive" if opencv else "plain",
        notes=() if opencv else ("naive_fps needs OpenCV",),
    )
    raw = Raw(
        alone=run(),
        paced=Run(100, 90, 4.0, 1.0, 0.5, 0.0, {"age": Times(20.0, 18.0, 33.0)}, {"not sampled": 10}),
        rates=(rates(95.0, steal=0.0 if steal else steal), rates(80.0, steal=steal)),
        sampled=(Round(loop + last, {SAMPLED: run(cpu_ms=6.0), **grab}),),
        idle=(Round(loop, {IDLE: run(cpu_ms=1.0, not_decoded=98)}),),
        idle_paced=(Round(loop, {IDLE_PACED: run(cpu_ms=2.0, not_decoded=not_decoded)}),),
        shared=(shared,) if cameras > 1 else (),
        start_s=(0.8, 0.9, 1.2),
        peak_rss_mb=118.0,
    )
    return summarise(setting, raw)
