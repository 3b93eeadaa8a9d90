"""The numbers in the text that Prometheus reads, by prometheus-client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder

from agent.histogram import Distribution
from agent.metrics.table import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric as Family

    from agent.metrics.snapshot import Snapshot
    from agent.metrics.table import Metric


def expose(snapshot: Snapshot, accept: str = "") -> tuple[str, bytes]:
    """Return content type and text; in OpenMetrics for who says so in its Accept header."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(snapshot))
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)


class _Collector:
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Family]:
        for metric in METRICS:
            yield _family(metric, self._snapshot)


def _family(metric: Metric, snapshot: Snapshot) -> Family:
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value in metric.read(snapshot).items():
            if isinstance(value, Distribution):
                bounds = [*map(str, value.bounds_s), "+Inf"]
                histogram.add_metric(labels, list(zip(bounds, value.cumulative, strict=True)), value.sum_s)
        return histogram
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    plain = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in metric.read(snapshot).items():
        if not isinstance(value, Distribution):
            plain.add_metric(labels, value)
    return plain
