"""The report for people: a table of the figures, over all rounds and over the quiet ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from agent.bench.figures import QUIET_STEAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.bench.figures import Spread, Times
    from agent.bench.report import Report

    Row = tuple[str, str, str, str]

_STAGES = ("decode", "prepare", "infer", "finish")


def table(report: Report) -> Table:
    """Return the table, at most 80 columns wide."""
    rates = report.spreads["efficiency"]
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column("")
    made.add_column("all rounds", justify="right")
    made.add_column("least to most", justify="right")
    made.add_column("quiet rounds", justify="right")
    for row in _rows(report):
        made.add_row(*row)
    made.caption = (
        f"{rates.quiet_rounds} of {rates.rounds} rounds of the efficiency were quiet: "
        f"at most {QUIET_STEAL:.0%} of the machine stolen in any run"
    )
    if all(one.steal is None for one in report.raw.rates):
        made.caption = "Which rounds were quiet is not known: this system does not tell what was stolen"
    made.caption_justify = "left"
    return made


def _rows(report: Report) -> Iterator[Row]:
    yield from _rates(report)
    yield from _cpu(report)
    yield "", "mean", "p50", "p95"
    for name in _STAGES:
        yield _times(f"{name}, ms, beside the engine", report.stages.get(name))
        yield _times(f"{name}, ms, alone", report.stages_alone.get(name))
    yield _times("age when decided, ms, clip's pace", report.age)
    for name, count in report.drops.items():
        yield f"  frames {name}" if "packet" not in name else f"  {name}", str(count), "", ""
    yield "", "", "", ""
    yield "peak memory of edge-agent run, MB", _number(report.peak_rss_mb, 0), "", ""
    low, high = min(report.raw.start_s), max(report.raw.start_s)
    yield "start to first inference, s", f"{report.startup_s:.2f}", f"{low:.2f} to {high:.2f}", ""
    yield from _cameras(report)


def _rates(report: Report) -> Iterator[Row]:
    spreads, naive = report.spreads, report.setting.baseline == "naive"
    name = "plain OpenCV loop" if naive else "plain loop, no OpenCV"
    yield _spread("engine alone, inferences/s", spreads["engine_limit_fps"], 1)
    yield _spread("pipeline, inferences/s", spreads["pipeline_fps"], 1)
    yield _spread("efficiency: pipeline / engine", spreads["efficiency"], 3)
    yield _spread(f"{name}, inferences/s", spreads["baseline_fps"], 1)
    yield _spread(f"{name} / engine", spreads["baseline_efficiency"], 3)


def _cpu(report: Report) -> Iterator[Row]:
    spreads = report.spreads
    yield "CPU without the engine", "", "", ""
    yield _spread("  every frame inferred, ms a frame", spreads["cpu_ms_per_frame"], 2)
    yield _spread("  5 inferences/s, ms a frame", spreads["sampled_cpu_ms_per_frame"], 2)
    if "sampled_cpu_vs_naive" in spreads:
        yield _spread("  5 inferences/s / OpenCV loop", spreads["sampled_cpu_vs_naive"], 3)
    if "grab_cpu_ms_per_frame" in spreads:
        yield _spread("  OpenCV loop with grab, ms a frame", spreads["grab_cpu_ms_per_frame"], 2)
        yield _spread("  5 inferences/s / loop with grab", spreads["sampled_cpu_vs_grab"], 3)
    for name, title in (("idle", "idle"), ("idle_paced", "idle at camera pace")):
        if f"{name}_cpu_ms_per_frame" in spreads:
            yield _spread(f"  {title}, ms a frame", spreads[f"{name}_cpu_ms_per_frame"], 2)
        if f"{name}_cpu_vs_naive" in spreads:
            yield _spread(f"  {title} / OpenCV loop", spreads[f"{name}_cpu_vs_naive"], 3)


def _cameras(report: Report) -> Iterator[Row]:
    if "cameras_rate" in report.spreads:
        count = report.setting.cameras
        yield _spread(f"{count} cameras: rate / one camera's", report.spreads["cameras_rate"], 3)
        yield _spread("  slowest / fastest camera", report.spreads["fairness"], 3)
        yield "  memory a further camera, MB", _number(report.rss_mb_per_further_camera, 0), "", ""


def _spread(name: str, found: Spread, digits: int) -> Row:
    least_to_most = f"{found.least:.{digits}f} to {found.most:.{digits}f}"
    return name, _number(found.median, digits), least_to_most, _number(found.quiet_median, digits)


def _times(name: str, times: Times | None) -> Row:
    if times is None:
        return name, "-", "", ""
    return name, *(f"{ms:.2f}" for ms in (times.mean_ms, times.p50_ms, times.p95_ms))  # type: ignore[return-value]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
