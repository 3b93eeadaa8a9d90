"""One verdict on the whole agent, from what its stages say of themselves: ok, degraded with reasons, or stuck. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.throttle import Budget

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from agent import wire
    from agent.camerahealth import CameraHealth
    from agent.heartbeat import Heartbeat
    from agent.outbox.outbox import OutboxState
    from agent.publisher.state import PublisherState
    from agent.status import EngineStatus

_WELL = ("ok", "starting")
ALL = Budget()
_FULL = 0.9
"""Share of the outbox from which it is told: what follows will be given up soon."""
_NAMED = 3
"""How many denied topics are named."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`stuck`: the stages in a call past its deadline; only a restart helps. A reason is one line of text."""

    state: wire.Verdict = "ok"
    reasons: tuple[str, ...] = ()
    stuck: tuple[Heartbeat, ...] = ()


def judge(
    beats: Iterable[Heartbeat],
    *,
    cameras: Mapping[str, CameraHealth],
    publisher: PublisherState,
    outbox: OutboxState,
    engines: Iterable[EngineStatus] = (),
    given_up: str = "",
    budget: Budget = ALL,
    now_s: float,
) -> Verdict:
    """Return the verdict at `now_s` of CLOCK_MONOTONIC; `given_up` tells of a model that was.

    A call past its deadline is stuck. A stage that waits is not: a camera or broker that is away and a disk
    that refuses are progress, and reasons.
    """
    stuck = tuple(beat for beat in beats if beat.call and now_s - beat.since_s > beat.deadline_s)
    reasons = (
        *(f"{beat.stage}: {beat.call} takes longer than {beat.deadline_s:g} s" for beat in stuck),
        *_of_cameras(cameras),
        *_of_publisher(publisher),
        *_of_outbox(outbox),
        *(f"model {each.model}: {line}" for each in engines for line in each.failures),
        *([f"model {given_up}"] if given_up else []),
        *([f"device: {budget.reason}"] if budget.reason else []),
    )
    return Verdict("stuck" if stuck else "degraded" if reasons else "ok", reasons, stuck)


def _of_cameras(cameras: Mapping[str, CameraHealth]) -> Iterator[str]:
    for name, health in sorted(cameras.items()):
        if health.state not in _WELL:
            yield f"camera {name}: {health.state}" + (f": {health.detail}" if health.detail else "")


def _of_publisher(state: PublisherState) -> Iterator[str]:
    if not state.connected:
        yield f"{'sink' if state.protocol == 'file' else 'broker'}: {state.last_error or 'not connected yet'}"
    if topics := state.denied_topics:
        more = f" and {len(topics) - _NAMED} more" if len(topics) > _NAMED else ""
        yield f"broker: denies messages on {', '.join(topics[:_NAMED])}{more}"
    for topic in state.unread_topics:
        yield f"broker: {topic} is flooded: it is not read for some minutes"


def _of_outbox(state: OutboxState) -> Iterator[str]:
    if not state.durable:
        yield "outbox: in memory alone, a restart loses what is queued"
    if state.failing:
        yield f"outbox: {state.failing}"
    if state.used_bytes > _FULL * state.max_bytes:
        yield f"outbox: more than {_FULL:.0%} full"
