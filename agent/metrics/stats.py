"""The numbers as one flat table, for the `stats` message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.histogram import Distribution
from agent.metrics.table import series

if TYPE_CHECKING:
    from agent.metrics.snapshot import Snapshot
    from agent.metrics.table import Series


def values(snapshot: Snapshot) -> dict[str, float]:
    """Return every number under the name that Prometheus has for it: `edge_agent_frames_total{camera="yard"}`.

    Of a state only the one that holds, of a histogram the number and the sum.
    """
    found: dict[str, float] = {}
    for each in series(snapshot):
        if isinstance(each.value, Distribution):
            found[_name(each, "_count")] = each.value.count
            found[_name(each, "_sum")] = round(each.value.sum_s, 6)
        elif each.value or each.metric.kind != "state":
            found[_name(each)] = float(each.value)
    return found


def _name(each: Series, suffix: str = "") -> str:
    named = sorted(zip(each.metric.labels, each.labels, strict=True))
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in named)
    return each.metric.name + suffix + (f"{{{labels}}}" if labels else "")


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
