"""Several cameras on one engine, in a process of their own, so that its memory is theirs alone."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from agent.bench.children import answer, ask
from agent.bench.figures import Run
from agent.bench.loops import EVERY_FRAME, open_rig, run_cameras
from agent.bench.meter import Gauge, peak_rss_mb
from agent.bench.sources import LoopedCamera
from agent.errors import ServiceAway

OVERLOAD = 1.25
"""Together the cameras send this much more than the engine alone could take: never idle, and it must choose."""
_BEGIN_S = 60.0
_POLL_S = 0.01


class Task(msgspec.Struct, frozen=True):
    """What the child has to do: `cameras` that together send `offered_hz`, counted for `seconds`."""

    model: str
    threads: int
    clip: str
    cameras: int
    offered_hz: float
    seconds: float


def in_child(task: Task) -> Run:
    """Carry out `task` in a fresh process. Raises AgentError."""
    question = msgspec.json.encode(task).decode()
    return msgspec.json.decode(
        ask("agent.bench.cameras", question, limit_s=task.seconds + 3 * _BEGIN_S), type=Run
    )


def carry_out(task: Task) -> Run:
    """Carry out `task` here. The count begins when every camera has been served. Raises AgentError."""
    rig = open_rig(Path(task.model), threads=task.threads)
    each_hz = task.offered_hz / task.cameras
    all_stages = [rig.stages() for _ in range(task.cameras)]
    counted: list[Run] = []

    def count() -> None:
        deadline_s = time.monotonic() + _BEGIN_S
        while not all(stages.inferred for stages in all_stages):
            if time.monotonic() > deadline_s:
                raise ServiceAway(
                    "a camera gets no inference", seen=f"{_BEGIN_S:.0f} s", fix="use fewer cameras"
                )
            time.sleep(_POLL_S)
        gauge, begin_s = Gauge(rig.engine), time.perf_counter()
        before = [stages.inferred for stages in all_stages]
        time.sleep(task.seconds)
        inferred = tuple(stages.inferred - had for stages, had in zip(all_stages, before, strict=True))
        wall_s = time.perf_counter() - begin_s
        offered = round(task.offered_hz * wall_s)
        run = gauge.run(frames=offered, inferred=sum(inferred), wall_s=wall_s)
        counted.append(msgspec.structs.replace(run, per_camera=inferred, peak_rss_mb=peak_rss_mb()))

    cameras = [(LoopedCamera(Path(task.clip), each_hz), stages, EVERY_FRAME) for stages in all_stages]
    run_cameras(rig, cameras, eager=False, meanwhile=count)
    rig.engine.close()
    return counted[0]


if __name__ == "__main__":
    answer(lambda text: msgspec.json.encode(carry_out(msgspec.json.decode(text, type=Task))))
