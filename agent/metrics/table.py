"""Every number that the agent tells: its name, kind, meaning and labels, and how it is read off a snapshot. Pure.

Names and units are by Prometheus' conventions (https://prometheus.io/docs/practices/naming/).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from agent.camerahealth import CameraState
from agent.payloads import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from agent.histogram import Distribution
    from agent.metrics.snapshot import Snapshot

Kind = Literal["counter", "gauge", "state", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `read` returns its numbers by the values of its `labels`; one without labels has the key ().

    A "state" is 1 for what holds, and 0 for all else that its last label can be.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    read: Callable[[Snapshot], Mapping[tuple[str, ...], float | Distribution]]


@dataclass(frozen=True, slots=True)
class Series:
    """One number of a metric, `labels` in the order of the metric's."""

    metric: Metric
    labels: tuple[str, ...]
    value: float | Distribution


def series(snapshot: Snapshot) -> Iterator[Series]:
    """Yield every number of `snapshot`, metric by metric."""
    for metric in METRICS:
        for labels, value in metric.read(snapshot).items():
            yield Series(metric, labels, value)


def _states(names: tuple[str, ...], now: str) -> dict[str, float]:
    return {name: float(name == now) for name in names}


_ANSWERS = ("delivered", "rejected", "denied", "busy", "refused", "lost")

METRICS = (
    Metric(
        "edge_agent_info", "gauge", "Which agent this is; always 1.", ("version", "device"),
        lambda s: {(s.version, s.device): 1},
    ),
    Metric(
        "edge_agent_uptime_seconds", "gauge", "Time since the agent started.", (),
        lambda s: {(): s.uptime_s},
    ),
    Metric(
        "edge_agent_verdict", "state", "How the agent does, as its health topic tells it.", ("verdict",),
        lambda s: {(name,): on for name, on in _states(get_args(Verdict), s.verdict).items()},
    ),
    Metric(
        "edge_agent_clock_synced", "gauge", "1 when the wall clock is synchronised.", (),
        lambda s: {(): s.clock_synced},
    ),
    Metric(
        "edge_agent_resident_memory_bytes", "gauge", "Memory of the process that is resident.", (),
        lambda s: {(): s.process.memory_bytes},
    ),
    Metric(
        "edge_agent_open_descriptors", "gauge", "Open file descriptors of the process.", (),
        lambda s: {(): s.process.descriptors},
    ),
    Metric("edge_agent_threads", "gauge", "Threads of the process.", (), lambda s: {(): s.process.threads}),
    # cameras
    Metric(
        "edge_agent_camera_state", "state", "What state the camera is in.", ("camera", "state"),
        lambda s: {
            (c.name, name): on for c in s.cameras for name, on in _states(get_args(CameraState), c.state).items()
        },
    ),
    Metric(
        "edge_agent_frames_total", "counter", "Frames that the camera gave, decoded.", ("camera",),
        lambda s: {(c.name,): c.frames for c in s.cameras},
    ),
    Metric(
        "edge_agent_frames_inferred_total", "counter", "Frames that went through the network.", ("camera",),
        lambda s: {(c.name,): c.inferred for c in s.cameras},
    ),
    Metric(
        "edge_agent_frames_dropped_total", "counter", "Frames that did not go through the network, by reason.",
        ("camera", "reason"),
        lambda s: {(c.name, reason): n for c in s.cameras for reason, n in c.dropped.items()},
    ),
    Metric(
        "edge_agent_frame_age_seconds", "histogram", "Age of a frame when its events were decided.", ("camera",),
        lambda s: {(c.name,): c.age for c in s.cameras},
    ),
    Metric(
        "edge_agent_event_messages_total", "counter", "Messages on begin, change and end of events.", ("camera",),
        lambda s: {(c.name,): c.events for c in s.cameras},
    ),
    Metric(
        "edge_agent_camera_failures_total", "counter", "How often the camera failed or lost its connection.",
        ("camera",),
        lambda s: {(c.name,): c.failures for c in s.cameras},
    ),
    Metric(
        "edge_agent_source_rate_hertz", "gauge", "Frames a second of the camera; 0 while unknown or away.", ("camera",),
        lambda s: {(c.name,): c.source_hz for c in s.cameras},
    ),
    Metric(
        "edge_agent_inference_rate_hertz", "gauge", "Inferred frames a second, over the last 30 seconds.",
        ("camera",),
        lambda s: {(c.name,): c.inferred_hz for c in s.cameras},
    ),
    Metric(
        "edge_agent_miss_window_seconds", "gauge", "Longest time that an object can be in view unseen.",
        ("camera",),
        lambda s: {(c.name,): c.miss_window_s for c in s.cameras if c.miss_window_s is not None},
    ),
    # engines
    Metric(
        "edge_agent_delegated_nodes", "gauge", "Parts of the graph that a delegate runs; 0: none, and slow.",
        ("model", "backend"),
        lambda s: {(e.model, e.backend): e.delegated_nodes for e in s.engines},
    ),
    Metric(
        "edge_agent_stage_duration_seconds", "histogram", "Time that a frame took in a stage.",
        ("model", "stage"),
        lambda s: {(e.model, stage): times for e in s.engines for stage, times in e.stages.items()},
    ),
    # the way out
    Metric(
        "edge_agent_messages_total", "counter", "Messages that were given a number.", ("lane",),
        lambda s: {(lane.name,): account.allocated for lane, account in s.lanes.items()},
    ),
    Metric(
        "edge_agent_messages_confirmed_total", "counter", "Messages that arrived.", ("lane",),
        lambda s: {(lane.name,): account.confirmed for lane, account in s.lanes.items()},
    ),
    Metric(
        "edge_agent_messages_lost_total", "counter", "Messages that will not come; each is reported as a gap.",
        ("lane", "reason"),
        lambda s: {
            (lane.name, reason): lost
            for lane, a in s.lanes.items()
            for reason, lost in (
                ("evicted", a.evicted - a.rejected), ("rejected", a.rejected), ("corrupt", a.corrupt)
            )
        },
    ),
    Metric(
        "edge_agent_outbox_queued_messages", "gauge", "Messages that wait, of earlier runs too.", (),
        lambda s: {(): s.outbox.queued},
    ),
    Metric(
        "edge_agent_outbox_used_bytes", "gauge", "Size of the outbox on disk.", (),
        lambda s: {(): s.outbox.used_bytes},
    ),
    Metric(
        "edge_agent_outbox_limit_bytes", "gauge", "Size at which the oldest messages are given up.", (),
        lambda s: {(): s.outbox.max_bytes},
    ),
    Metric(
        "edge_agent_outbox_failing", "gauge", "1 while the disk refuses what is queued.", (),
        lambda s: {(): bool(s.outbox.failing)},
    ),
    Metric(
        "edge_agent_outbox_durable", "gauge", "0 when what is queued is in memory alone.", (),
        lambda s: {(): s.outbox.durable},
    ),
    Metric(
        "edge_agent_outbox_repairs_total", "counter", "Damaged files of the outbox that were replaced.", (),
        lambda s: {(): s.outbox.repaired},
    ),
    Metric(
        "edge_agent_broker_connected", "gauge", "1 while there is a connection to the broker.", (),
        lambda s: {(): s.publisher.connected},
    ),
    Metric(
        "edge_agent_broker_connections_total", "counter", "Connections to the broker that were made.", (),
        lambda s: {(): s.publisher.connections},
    ),
    Metric(
        "edge_agent_broker_in_flight_messages", "gauge", "Messages that were sent and not yet answered.", (),
        lambda s: {(): s.publisher.in_flight},
    ),
    Metric(
        "edge_agent_broker_answers_total", "counter", "What became of messages that were sent.", ("answer",),
        lambda s: {(answer,): getattr(s.publisher, answer) for answer in _ANSWERS},
    ),
    Metric(
        "edge_agent_commands_total", "counter", "Commands that came over MQTT, by what became of them.", ("result",),
        lambda s: {(result,): count for result, count in s.commands.items()},
    ),
    # heat and power
    Metric(
        "edge_agent_temperature_celsius", "gauge", "Temperature of a thermal zone.", ("zone",),
        lambda s: {(z.name,): z.temperature_c for z in s.throttling.zones if z.temperature_c is not None},
    ),
    Metric(
        "edge_agent_temperature_limit_celsius", "gauge", "Temperature at which the device is slowed.", ("zone",),
        lambda s: {(z.name,): z.slows_at_c for z in s.throttling.zones if z.slows_at_c is not None},
    ),
    Metric(
        "edge_agent_under_voltage", "gauge", "1 while the power supply is too weak.", (),
        lambda s: {(): s.throttling.under_voltage},
    ),
    Metric(
        "edge_agent_slowed", "gauge", "1 while firmware or kernel hold the clocks down.", (),
        lambda s: {(): bool(s.throttling.slowed)},
    ),
    Metric(
        "edge_agent_sampling_budget_ratio", "gauge", "Share of its rate that sampling may use.", (),
        lambda s: {(): s.budget.factor},
    ),
)  # fmt: skip
"""In the order in which they are told."""
