"""The runs: the bare engine, the agent's own frame path, and one loop that does one thing after the other."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from msgspec import structs

from agent.assembly import build_pipeline, open_model
from agent.bench.meter import Gauge, MeteredEngine, TimedStages, tasks
from agent.bench.sources import FirstFrames
from agent.captureloop import Capture
from agent.config import Detect, Sampling
from agent.daemon import GIL_SWITCH_S
from agent.mailbox import Mailbox
from agent.overlap import Overlap
from agent.priority import NICE_STAGES
from agent.sampling import make_sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.bench.figures import Run
    from agent.bundle import Bundle
    from agent.capture import FrameSource, Pace, StreamOptions

CAMERA = "bench"
EVERY_FRAME = Sampling()


@dataclass(frozen=True, slots=True)
class Rig:
    """A model ready to run, with its processor time told apart from everything else's."""

    bundle: Bundle
    engine: MeteredEngine

    def stages(self) -> TimedStages:
        """Return the stages of a new camera."""
        return TimedStages(build_pipeline(self.bundle, self.engine, Detect(), camera=CAMERA))


def open_rig(model: Path, *, threads: int) -> Rig:
    """Open a model as `run` does. Raises AgentError."""
    before = tasks()
    bundle, engine = open_model(model, threads=threads)
    return Rig(bundle, MeteredEngine(engine, tasks() - before))


def bare(rig: Rig, inferences: int) -> Run:
    """Run the engine alone, on the same input again and again."""
    spec = rig.engine.input
    tensor = np.zeros(spec.shape, spec.dtype)
    gauge = Gauge(rig.engine)
    begin_s = time.perf_counter()
    for _ in range(inferences):
        rig.engine.infer(tensor)
    return gauge.run(frames=inferences, inferred=inferences, wall_s=time.perf_counter() - begin_s)


def agent(
    rig: Rig,
    clip: Path,
    frames: int,
    *,
    pace: Pace = "fastest",
    sampling: Sampling = EVERY_FRAME,
    options: StreamOptions | None = None,
    settle: int = 0,
) -> Run:
    """Run the agent's frame path on the first `frames` of `clip`, from the packet to the decided event.

    At real-time pace frames are dropped as a camera's would be, and `times["age"]` is how old a frame was when
    it was decided, from the moment at which it was due. At the fastest pace none is dropped.
    Processor time is counted from frame `settle` on, and the run's `frames` are those after it, as are the
    packets that it tells were not decoded.
    """
    fastest = pace == "fastest"
    gauge, stages = Gauge(rig.engine), rig.stages()
    before = 0

    def begin() -> None:
        nonlocal before
        before = source.stats.packets_not_decoded
        gauge.restart()

    source = FirstFrames(clip, frames, pace=pace, options=options, settle=settle, begun=begin)
    capture, mailbox = run_cameras(rig, [(source, stages, sampling)], eager=fastest)[0]
    samples_s = {"prepare": stages.prepare_s, "finish": stages.finish_s}
    samples_s |= {"decode": source.took_s} if fastest else {"age": stages.ages_s}
    drops = {
        "replaced by a newer one": mailbox.replaced,
        "not sampled": capture.not_sampled,
        "undecodable packets": source.stats.undecodable_packets,
    }
    run = gauge.run(
        frames=source.frame_count - settle,
        inferred=stages.inferred,
        wall_s=stages.wall_s,
        samples_s=samples_s,
        drops=drops,
    )
    return structs.replace(run, not_decoded=source.stats.packets_not_decoded - before)


def plain(rig: Rig, clip: Path, frames: int) -> Run:
    """Do the same work for the first `frames` of `clip` in one loop, without overlap."""
    gauge, stages = Gauge(rig.engine), rig.stages()
    source = FirstFrames(clip, frames, pace="fastest", begun=gauge.restart)
    source.open()
    try:
        for frame in source.frames():
            prepared = stages.prepare(frame)
            stages.finish(frame, prepared.geometry, rig.engine.infer(prepared.tensor))
    finally:
        source.close()
    samples_s = {"decode": source.took_s, "prepare": stages.prepare_s, "finish": stages.finish_s}
    inferred = stages.inferred
    return gauge.run(frames=inferred, inferred=inferred, wall_s=stages.wall_s, samples_s=samples_s)


def run_cameras(
    rig: Rig,
    cameras: Sequence[tuple[FrameSource, TimedStages, Sampling]],
    *,
    eager: bool,
    meanwhile: Callable[[], None] | None = None,
) -> list[tuple[Capture, Mailbox]]:
    """Run the threads of `cameras` around one engine, as the daemon does, until their sources end.

    `meanwhile` runs in the calling thread; the sources are closed when it returns. Raises what a thread raised.
    """
    sys.setswitchinterval(GIL_SWITCH_S)
    bell = threading.Condition()
    mailboxes = [Mailbox(bell, blocking=eager) for _ in cameras]
    captures = [
        Capture(CAMERA, _always(source), make_sampler(sampling), mailbox)
        for (source, _, sampling), mailbox in zip(cameras, mailboxes, strict=True)
    ]
    lanes = [(mailbox, stages) for mailbox, (_, stages, _) in zip(mailboxes, cameras, strict=True)]
    overlap = Overlap(lanes, rig.engine, bell, eager=eager, nice=NICE_STAGES)

    def stop() -> None:
        for capture, mailbox in zip(captures, mailboxes, strict=True):
            capture.close()
            mailbox.close()

    together([*(capture.run for capture in captures), overlap.run], stop, meanwhile)
    return list(zip(captures, mailboxes, strict=True))


def _always(source: FrameSource) -> Callable[[], FrameSource]:
    return lambda: source


def together(
    works: Sequence[Callable[[], None]], stop: Callable[[], None], meanwhile: Callable[[], None] | None = None
) -> None:
    """Run `works` in a thread each until all have returned; `stop` must end them, and is called when one fails.

    `meanwhile` runs in the calling thread, with `stop` after it. Raises the first thing that any of them raised.
    """
    faults: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as fault:  # noqa: BLE001  it is raised again by the caller's thread
            faults.append(fault)
            stop()

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    try:
        if meanwhile is not None:
            meanwhile()
            stop()
        for thread in threads:
            thread.join()
    except BaseException:
        stop()
        raise
    if faults:
        raise faults[0]
