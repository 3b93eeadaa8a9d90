"""A snapshot with something of everything in it, for the tests of the numbers."""

from __future__ import annotations

from agent.hardware import ThermalZone, Throttling
from agent.histogram import Histogram
from agent.metrics import CameraSample, EngineSample, ProcessSample, Snapshot
from agent.outbox.ledger import Lane
from agent.outbox.outbox import OutboxState
from agent.outbox.stored import Account
from agent.publisher.state import PublisherState
from agent.recent import Percentiles
from agent.throttle import Budget


def times(*seconds: float):
    """Return the distribution of `seconds`."""
    histogram = Histogram()
    for each in seconds:
        histogram.observe(each)
    return histogram.read()


SNAPSHOT = Snapshot(
    version="1.2.3",
    device="pi4",
    uptime_s=3600.5,
    verdict="degraded",
    clock_synced=True,
    cameras=(
        CameraSample(
            name="yard",
            state="ok",
            frames=100,
            inferred=60,
            dropped={"not_sampled": 30, "replaced": 8, "suppressed": 2},
            events=7,
            failures=1,
            source_hz=25.0,
            inferred_hz=9.8,
            miss_window_s=0.14,
            age=times(0.03, 0.04, 0.3),
            recent_age=Percentiles(3, 0.04, 0.3),
        ),
        CameraSample(name='back "door"\\', state="down", frames=0, inferred=0, dropped={}, events=0),
    ),
    engines=(
        EngineSample(
            model="person-ssdlite-300",
            backend="litert-xnnpack",
            delegated_nodes=1,
            stages={"prepare": times(0.002), "infer": times(0.02, 0.021), "finish": times(0.0004)},
            recent=Percentiles(2, 0.02, 0.021),
        ),
    ),
    lanes={
        Lane.P0: Account(allocated=10, confirmed=6, evicted=3, corrupt=1, rejected=2),
        Lane.P1: Account(),
        Lane.P2: Account(allocated=4, confirmed=4),
    },
    outbox=OutboxState(queued=5, used_bytes=4096, max_bytes=1 << 26, failing="", repaired=0, durable=True),
    publisher=PublisherState(
        alive=True,
        connected=True,
        connections=3,
        protocol="5",
        in_flight=2,
        delivered=10,
        rejected=2,
        denied=1,
        busy=0,
        refused=0,
        lost=4,
        strays=0,
        faults=0,
        denied_topics=(),
        last_error="",
    ),
    throttling=Throttling(
        zones=(ThermalZone("cpu-thermal", 82.06, 80.0), ThermalZone("cv0-thermal", None)),
        under_voltage=True,
        slowed=("throttled",),
    ),
    budget=Budget(0.5, "too hot"),
    process=ProcessSample(80 << 20, 30, 12),
    commands={"done": 3, "rejected_expired": 1},
)
