"""One bench from beginning to end: clips, model, rounds, child processes."""

from __future__ import annotations

import statistics
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING

from msgspec import structs

from agent.bench.cameras import OVERLOAD, Task, in_child
from agent.bench.children import start_agent
from agent.bench.clip import FRAMES, GOP, RATE_HZ
from agent.bench.figures import other_cpu_ms, rate_hz
from agent.bench.loops import agent, bare, plain
from agent.bench.naive import naive
from agent.bench.plan import SAMPLED_HZ, make_plan, setting_of
from agent.bench.report import (
    BASELINE,
    CAMERAS,
    GRAB,
    IDLE,
    IDLE_PACED,
    PIPELINE,
    SAMPLED,
    Raw,
    summarise,
)
from agent.bench.rounds import alternate
from agent.capture import StreamOptions
from agent.config import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.bench.figures import Round, Run
    from agent.bench.plan import Options, Plan
from agent.bench.report import Report

SETTLE_FRAMES = 10 * RATE_HZ
"""So long a camera that watches a still scene is given to fall idle before its processor time counts."""
IDLE_FRAMES = FRAMES - GOP
"""Where its processor time ends: at the end of a clip what was not decoded is, which a camera never sees."""
RATE_ROUNDS = 3
"""The rates get so many times the rounds that were asked for: their runs are shorter than the others."""
PACED_ROUNDS, PACED_FRAMES = 2, 250
"""At a camera's pace a run of the agent takes 18 s, and one of so many frames of the OpenCV loop 10 s."""
STARTS = 5
STAY_S = 5.0
SHARED_S = 6.0
_CHILD_S = 1.5


def measure(options: Options, tell: Callable[[str], None]) -> Report:
    """Measure it all; `tell` gets lines of progress. Raises AgentError."""
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    plan = make_plan(options, tell)
    tell(f"about {max(1, round(estimate_s(plan) / 60))} min")
    rates = _rates(plan, tell)
    sampled = _sampled(plan, tell)
    idle = _idle(plan, tell)
    idle_paced = _idle(plan, tell, paced=True)
    tell("at the clip's own pace ...")
    paced = agent(plan.rig, plan.clip, plan.frames, pace="realtime")
    plan.rig.engine.close()
    tell(f"{STARTS} starts of edge-agent run ...")
    start = partial(start_agent, plan.clip, options.model, threads=options.threads)
    starts = [start(stay_s=STAY_S if number == 0 else 0.0) for number in range(STARTS)]
    limit_hz = statistics.median(rate_hz(run) for one in rates for run in one.references)
    shared = _shared(plan, OVERLOAD * limit_hz, tell)
    raw = Raw(
        alone=plan.alone,
        paced=paced,
        rates=tuple(rates),
        sampled=tuple(sampled),
        idle=tuple(idle),
        idle_paced=tuple(idle_paced),
        shared=tuple(shared),
        start_s=tuple(one.first_inference_s for one in starts),
        peak_rss_mb=starts[0].peak_rss_mb,
    )
    return summarise(setting_of(plan, started), raw)


def estimate_s(plan: Plan) -> float:
    """Return about how long the rest takes."""
    bare_s, plain_s = plan.bare_s, plan.alone.wall_s
    rates_s = RATE_ROUNDS * plan.options.rounds * (3 * bare_s + plain_s)
    sampled_s = plan.options.rounds * 5 * FRAMES * plan.alone.other_cpu_ms / 1e3
    paced_s = plan.frames / plan.facts.frame_rate_hz
    if plan.still is not None:
        rounds = min(PACED_ROUNDS, plan.options.rounds)
        theirs = 0 if plan.opencv else (rounds + 1) * PACED_FRAMES
        paced_s += (rounds * IDLE_FRAMES + theirs) / RATE_HZ
    starts_s = STARTS * _CHILD_S + STAY_S
    shared_s = (2 * plan.options.rounds + 1) * (SHARED_S + _CHILD_S) if plan.options.cameras > 1 else 0.0
    return rates_s + sampled_s + paced_s + starts_s + shared_s


def _rates(plan: Plan, tell: Callable[[str], None]) -> list[Round]:
    """Alternate the agent's frame path and the baseline with the bare engine."""
    loop = plain if plan.opencv else naive
    contenders = {
        PIPELINE: partial(agent, plan.rig, plan.clip, plan.frames),
        BASELINE: partial(loop, plan.rig, plan.clip, plan.frames),
    }
    name = "a plain loop" if plan.opencv else "OpenCV loop"

    def line(one: Round) -> str:
        of = [one.ratio(run, rate_hz) for run in (PIPELINE, BASELINE)]
        return f"rate against the engine's: pipeline {of[0]:.3f}, {name} {of[1]:.3f}"

    count = RATE_ROUNDS * plan.options.rounds
    return _rounds(partial(bare, plan.rig, plan.frames), contenders, count, line, tell)


def _sampled(plan: Plan, tell: Callable[[str], None]) -> list[Round]:
    """Alternate the agent and the OpenCV loops at 5 inferences a second of a clip of up to 500 frames."""
    loop = partial(naive, plan.rig, plan.clip, FRAMES, every_n=plan.every_n)
    sampling = Sampling(mode="uniform", hz=SAMPLED_HZ)
    contenders = {SAMPLED: partial(agent, plan.rig, plan.clip, FRAMES, sampling=sampling)}
    if not plan.opencv:
        contenders[GRAB] = partial(loop, grab=True)

    def line(one: Round) -> str:
        cpu = f"{SAMPLED_HZ:g} inferences/s: {one.runs[SAMPLED].other_cpu_ms:.2f} ms CPU a frame"
        return cpu if plan.opencv else f"{cpu}, {one.ratio(SAMPLED, other_cpu_ms):.3f} of the OpenCV loop's"

    return _rounds(None if plan.opencv else loop, contenders, plan.options.rounds, line, tell)


def _idle(plan: Plan, tell: Callable[[str], None], *, paced: bool = False) -> list[Round]:
    """Do the same where nothing moves, with `decode = "keyframes_when_idle"`, once it has fallen idle.

    With `paced` frames come as from a camera, for the agent and for the loop.
    """
    if plan.still is None:
        return []
    every_n = round(RATE_HZ / SAMPLED_HZ)
    loop = partial(naive, plan.rig, plan.still, FRAMES, every_n=every_n)
    if paced:
        loop = partial(naive, plan.rig, plan.still, PACED_FRAMES, every_n=every_n, frame_rate_hz=RATE_HZ)
    name, title = (IDLE_PACED, "idle at camera pace") if paced else (IDLE, "idle")
    idling = partial(
        agent,
        plan.rig,
        plan.still,
        IDLE_FRAMES,
        sampling=Sampling(mode="uniform", hz=SAMPLED_HZ),
        options=StreamOptions(decode="keyframes_when_idle"),
        settle=SETTLE_FRAMES,
        pace="realtime" if paced else "fastest",
    )

    def line(one: Round) -> str:
        cpu = f"{title}: {one.runs[name].other_cpu_ms:.2f} ms CPU a frame"
        return cpu if plan.opencv else f"{cpu}, {one.ratio(name, other_cpu_ms):.3f} of the OpenCV loop's"

    count = min(PACED_ROUNDS, plan.options.rounds) if paced else plan.options.rounds
    return _rounds(None if plan.opencv else loop, {name: idling}, count, line, tell)


def _shared(plan: Plan, offered_hz: float, tell: Callable[[str], None]) -> list[Round]:
    """Alternate one camera with several that send as many frames together."""
    options = plan.options
    if options.cameras < 2:
        return []
    one = Task(str(options.model), options.threads, str(plan.clip), 1, offered_hz, SHARED_S)
    several = partial(in_child, structs.replace(one, cameras=options.cameras))

    def line(one: Round) -> str:
        rate, fairness = one.ratio(CAMERAS, rate_hz), one.runs[CAMERAS].fairness
        return f"{options.cameras} cameras: rate {rate:.3f} of one camera's, fairness {fairness:.3f}"

    return _rounds(partial(in_child, one), {CAMERAS: several}, options.rounds, line, tell)


def _rounds(
    reference: Callable[[], Run] | None,
    contenders: Mapping[str, Callable[[], Run]],
    count: int,
    line: Callable[[Round], str],
    tell: Callable[[str], None],
) -> list[Round]:
    rounds: list[Round] = []
    for one in alternate(reference, contenders, rounds=count):
        rounds.append(one)
        stolen = "steal unknown" if one.steal is None else f"steal up to {one.steal:.1%}"
        tell(f"round {len(rounds)} of {count}: {line(one)}; {stolen}")
    return rounds
