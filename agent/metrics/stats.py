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

    Of a state only the one that holds, of a histogram the number and the sum. The device as a whole is added under
    names without labels.
    """
    found: dict[str, float] = {}
    for each in series(snapshot):
        if isinstance(each.value, Distribution):
            found[_name(each, "_count")] = each.value.count
            found[_name(each, "_sum")] = round(each.value.sum_s, 6)
        elif each.value or each.metric.kind != "state":
            found[_name(each)] = float(each.value)
    return found | summary(snapshot)


def summary(snapshot: Snapshot) -> dict[str, float]:
    """Return the device in a few numbers, for who shows one a line; what is not known yet is left out.

    Rates and percentiles are of the last minute, over all cameras; the percentiles those of the slowest.
    """
    infer, age = snapshot.infer, snapshot.age
    told = {
        "inference_rate_total_hertz": snapshot.fps,
        "inference_p50_seconds": infer.p50_s if infer else None,
        "inference_p95_seconds": infer.p95_s if infer else None,
        "frame_age_p50_seconds": age.p50_s if age else None,
        "frame_age_p95_seconds": age.p95_s if age else None,
        "hottest_celsius": snapshot.hottest_c,
        "drops_total": snapshot.drops,
        "gaps_total": snapshot.gaps,
    }
    return {f"edge_agent_{name}": round(value, 6) for name, value in told.items() if value is not None}


def _name(each: Series, suffix: str = "") -> str:
    named = sorted(zip(each.metric.labels, each.labels, strict=True))
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in named)
    return each.metric.name + suffix + (f"{{{labels}}}" if labels else "")


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
