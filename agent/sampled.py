"""The snapshot that the numbers are taken from, made of the agent at work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent import __version__, clock
from agent.metrics import CameraSample, EngineSample, Snapshot, read_process

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.camera import Camera
    from agent.engineroom import EngineRoom
    from agent.engines import Engines
    from agent.hardware import Throttling
    from agent.outlet import Outlet
    from agent.throttle import Budget
    from agent.watch import Watch
    from agent.wire import Verdict


def take_snapshot(
    watch: Watch,
    engines: Engines,
    outlet: Outlet,
    *,
    verdict: Verdict,
    throttling: Throttling,
    budget: Budget,
    uptime_s: float,
    now_s: float,
    commands: Mapping[str, int],
) -> Snapshot:
    """Return the agent as it is now, at `now_s` of the monotonic clock; from any thread."""
    return Snapshot(
        version=__version__,
        device=outlet.identity.device,
        uptime_s=uptime_s,
        verdict=verdict,
        clock_synced=clock.clock_synced(),
        cameras=tuple(_camera(camera, now_s) for camera in watch.cameras),
        engines=tuple(_engine(room, now_s) for room in engines.rooms),
        lanes=outlet.outbox.counts(),
        outbox=outlet.outbox.state,
        publisher=outlet.publisher.state,
        throttling=throttling,
        budget=budget,
        process=read_process(),
        commands=commands,
    )


def _camera(camera: Camera, now_s: float) -> CameraSample:
    did, sampling = camera.numbers, camera.sampling_at(now_s)
    return CameraSample(
        name=camera.config.name,
        state=camera.health.state,
        frames=did.frames,
        inferred=did.inferred,
        dropped={
            "not_sampled": did.not_sampled,
            "replaced": did.replaced,
            "suppressed": did.suppressed,
        },
        events=did.events,
        failures=camera.failures,
        source_hz=did.rate_hz,
        inferred_hz=sampling.effective_hz,
        miss_window_s=sampling.miss_window_s,
        age=camera.age,
        recent_age=camera.recent_age(now_s),
    )


def _engine(room: EngineRoom, now_s: float) -> EngineSample:
    model = room.model
    return EngineSample(
        model=model.name,
        backend=model.backend,
        delegated_nodes=room.engine.info.delegated_nodes,
        stages={stage: took.read() for stage, took in room.overlap.took.items()},
        recent=room.overlap.recent.read(now_s),
    )
