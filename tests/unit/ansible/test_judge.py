"""The rule of the health gate: what a device must do as well as before."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.ansible import load

judge = load("module_utils/edge_agent_judge.py").judge
LIMITS = {"version": "0.2.0", "model": "", "verdict": "ok", "fps": 0.8, "latency": 1.5, "latency_ms": 20}
GOOD = {
    "version": "0.2.0",
    "verdict": "ok",
    "reasons": [],
    "fps": 10.0,
    "infer_ms": {"p50": 40.0, "p95": 50.0},
    "age_ms": {"p50": 60.0, "p95": 80.0},
    "model": {"bundle_sha": "ab"},
}
DEGRADED = {"verdict": "degraded", "reasons": ["camera yard is away"]}


@pytest.mark.parametrize(
    ("now", "before", "limits", "fault"),
    [
        ({}, {}, {}, ""),
        ({"version": "0.1.0"}, {}, {}, "version is 0.1.0, not 0.2.0"),
        ({"version": "0.1.0"}, {}, {"version": ""}, ""),
        ({}, {}, {"model": "cd"}, "model is ab, not cd"),
        ({"model": None}, {}, {"model": "cd"}, "model is none, not cd"),
        (DEGRADED, {}, {}, "verdict is degraded: camera yard is away; ok is the worst allowed"),
        (DEGRADED, {}, {"verdict": "degraded"}, ""),
        (DEGRADED, DEGRADED, {}, ""),
        ({"verdict": "stuck", "reasons": []}, DEGRADED, {}, "verdict is stuck"),
        ({"verdict": None}, {}, {}, "verdict is None"),
        ({"fps": 8.0}, {"fps": 10.0}, {}, ""),
        ({"fps": 7.9}, {"fps": 10.0}, {}, "fps is 7.90, 10.00 before"),
        ({"fps": None}, {"fps": 10.0}, {}, "no fps yet"),
        ({"fps": 0.0}, {"fps": None}, {}, ""),
        ({"fps": 0.0}, {"fps": 10.0}, {"fps": 0}, ""),
        ({"infer_ms": {"p95": 95.0}}, {"infer_ms": {"p95": 50.0}}, {}, ""),
        (
            {"infer_ms": {"p95": 95.1}},
            {"infer_ms": {"p95": 50.0}},
            {},
            "p95 of inference is 95 ms, 50 before",
        ),
        ({"age_ms": {"p95": 999.0}}, {"age_ms": {"p95": 80.0}}, {}, "p95 of age of frames is 999 ms"),
        ({"age_ms": None}, {"age_ms": {"p95": 80.0}}, {}, "no p95 of age of frames yet"),
        ({"age_ms": {"p95": 999.0}}, {"age_ms": {"p95": 80.0}}, {"latency": 0}, ""),
    ],
)
def test_the_rule(now: dict[str, Any], before: dict[str, Any], limits: dict[str, Any], fault: str) -> None:
    """Each way of being worse than before is told, and nothing else is held against a device."""
    found = judge({**GOOD, **now}, before, {**LIMITS, **limits})
    assert (fault in "; ".join(found)) if fault else not found


def test_an_answer_that_says_nothing_is_no_health() -> None:
    """A status without a verdict, as of a program that is another, never passes."""
    assert judge({}, {}, {**LIMITS, "version": ""})
