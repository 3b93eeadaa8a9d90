"""What a tuning looks like to a reader."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from agent.backends.choice import Choice
from agent.measured import Device, Measured, Tuning
from agent.tune.candidates import NO_CORE
from agent.tune.output import print_tuning

BEST = Measured(
    Choice("litert", "a", "int8", 3), 99, 1234.5, 2345.6, peak_rss_mb=104.0, before_c=48.0, after_c=61.0
)
MEASURED = (
    BEST,
    Measured(
        Choice("tflite-runtime", "a", "int8", 4, delegate=False), 9, 12345.6, 23456.7, objection=NO_CORE
    ),
    Measured(
        Choice("litert", "b", "fp32", 3),
        9,
        3000.0,
        3100.0,
        peak_rss_mb=115.0,
        objection="b: not finite",
    ),
    Measured(Choice("tensorrt", "c", "fp16", 1), 9, 1500.0, 1600.0, batch=4, batch_ms=8000.0),
    Measured(Choice("tensorrt", "d", "int8", 1), objection="it crashed (SIGSEGV)"),
)
DEVICE = Device("Jetson Orin Nano", "Tegra234", "Cortex-A78AE", 6, "36.4.0", {})


def shown(*measured: Measured, notes: tuple[str, ...] = ()) -> str:
    chosen = BEST.choice if BEST in measured else None
    tuning = Tuning(
        "a model 3", {}, DEVICE, "2026-11-22T10:00:00+00:00", 3, measured, chosen, ("x: why",), notes
    )
    out = io.StringIO()
    print_tuning(tuning, Path("kept.json"), Console(file=out, width=80))
    return out.getvalue()


def test_it_fits_80_columns_and_nothing_is_cut() -> None:
    """With the widest figures there are."""
    text = shown(*MEASURED, notes=("a note",))
    assert max(map(len, text.splitlines())) <= 80
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    rows = [line.split() for line in text.splitlines()]
    assert ["tflite-runtime", "int8", "4", "off", "12345.6", "23456.7", "10.00", "all", "cores"] in rows


def test_every_reason_is_told_in_full() -> None:
    """Why one is not taken, what is not there, what disturbed, how warm it got, and what was chosen why."""
    lines = shown(*MEASURED, notes=("a note",)).splitlines()
    for line in (
        "not taken: litert fp32, 3 threads: b: not finite",
        "not taken: tensorrt int8: it crashed (SIGSEGV)",
        "tensorrt fp16: 4 pictures at once 8000.0 ms, 2000.0 ms each",
        "not measured: x: why",
        "hottest zone: 48 C before, 61 C after",
        "! a note",
        "the fastest that may be taken; `run` takes it: kept.json",
    ):
        assert line in lines


def test_where_nothing_may_be_taken_nothing_is_chosen() -> None:
    """The table alone, without factors."""
    text = shown(*MEASURED[1:3])
    assert "chosen" not in text
    assert "takes it" not in text
