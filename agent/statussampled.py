"""The answer to `edge-agent status`, made of the agent at work."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

from agent import clock
from agent.status import (
    BrokerStatus,
    CameraStatus,
    LaneStatus,
    OutboxStatus,
    Spread,
    Status,
)

if TYPE_CHECKING:
    from pathlib import Path

    from agent import wire
    from agent.camera import Camera
    from agent.camerahealth import CameraHealth
    from agent.engines import Engines
    from agent.health import Verdict
    from agent.metrics import Snapshot
    from agent.outlet import Outlet
    from agent.watch import Watch


def take_status(
    seen: Snapshot,
    watch: Watch,
    engines: Engines,
    outlet: Outlet,
    *,
    verdict: Verdict,
    model: wire.ModelHealth | None,
    state_dir: Path,
    now_s: float,
) -> Status:
    """Return the agent as it is now, at `now_s` of the monotonic clock; its numbers are those `seen`."""
    health, publisher = watch.health(), outlet.publisher.state
    return Status(
        verdict=verdict.state,
        reasons=verdict.reasons,
        device=seen.device,
        version=seen.version,
        pid=os.getpid(),
        uptime_s=seen.uptime_s,
        time=clock.time_base().utc(now_s),
        clock_synced=seen.clock_synced,
        state_dir=str(state_dir),
        epoch=outlet.outbox.epoch,
        cameras=tuple(
            _camera(camera, health[camera.config.name], now_s)
            for camera in watch.cameras
            if camera.config.name in health
        ),
        engines=engines.status(),
        broker=BrokerStatus(
            connected=publisher.connected,
            protocol=publisher.protocol,
            in_flight=publisher.in_flight,
            delivered=publisher.delivered,
            rejected=publisher.rejected,
            denied_topics=publisher.denied_topics,
            error=publisher.last_error,
        ),
        outbox=OutboxStatus(
            lanes={
                lane.name: LaneStatus(**asdict(account), queued=account.queued)
                for lane, account in seen.lanes.items()
            },
            **asdict(seen.outbox),
        ),
        model=model,
        fps=None if seen.fps is None else round(seen.fps, 2),
        infer_ms=Spread.of(seen.infer),
        age_ms=Spread.of(seen.age),
        drops=seen.drops,
        gaps=seen.gaps,
        temperature_c=seen.hottest_c,
        throttled=bool(seen.throttling.slowed) or seen.throttling.under_voltage,
    )


def _camera(camera: Camera, health: CameraHealth, now_s: float) -> CameraStatus:
    numbers = camera.numbers
    return CameraStatus(
        name=camera.config.name,
        state=health.state,
        for_s=round(now_s - health.since_s, 1),
        detail=health.detail,
        fps=camera.sampling_at(now_s).effective_hz if numbers.inferred else None,
        age_ms=Spread.of(camera.recent_age(now_s)),
        **asdict(numbers),
    )
