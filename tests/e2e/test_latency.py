"""True frame age over RTSP with an engine three times slower than the stream, read from a strip in the picture."""

from __future__ import annotations

import pytest

from tests.bench.latency import Sample, first_quarter, last_quarter, measure, quantile

FPS, ENGINE_MS = 10, 300
GROWTH_MS = 3000
"""Far less than a queue would add, far more than a busy machine; how fast it is, `python -m tests.bench latency` says.
"""


def check(samples: list[Sample]) -> None:
    """Check that frames are as fresh at the end as at the beginning, and as old as the agent says."""
    assert len(samples) > 20
    begin, end = first_quarter(samples), last_quarter(samples)
    assert quantile(end, 0.5, "decided_ms") < quantile(begin, 0.5, "decided_ms") + GROWTH_MS
    assert abs(quantile(samples, 0.5, "decided_ms") - quantile(samples, 0.5, "told_ms")) < GROWTH_MS


def test_a_slow_engine_does_not_fall_behind() -> None:
    """Over 15 s the lag does not grow: a queue before the engine would add 10 s."""
    check(measure(seconds=15, fps=FPS, engine_ms=ENGINE_MS))


@pytest.mark.long
def test_a_slow_engine_does_not_fall_behind_in_a_minute() -> None:
    """Over 60 s the lag does not grow."""
    check(measure(seconds=60, fps=FPS, engine_ms=ENGINE_MS))
