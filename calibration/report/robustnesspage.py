"""`robustness.html`: what both networks reach under each corruption, plotted over its severity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.wholefile import write_whole
from calibration.record import dump
from calibration.report.page import render
from calibration.report.plots import ACCENT, FLOAT, plot
from calibration.report.samples import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from markupsafe import Markup
    from matplotlib.axes import Axes

    from calibration.record import Robustness, RobustnessResult
    from calibration.report.samples import Sample


def write_robustness(outcome: Robustness, samples: Iterable[Sample], folder: Path) -> None:
    """Write `robustness.json` and `robustness.html` into `folder`. Raises CannotCreate, InputMissing."""
    page = robustness_page(outcome, list(samples))
    write_whole(folder / "robustness.json", dump(outcome))
    write_whole(folder / "robustness.html", page)


def robustness_page(outcome: Robustness, samples: Sequence[Sample]) -> bytes:
    """Return the page. Raises InputMissing without OpenCV."""
    names = list(dict.fromkeys(result.corruption for result in outcome.results))
    rows = {name: [each for each in outcome.results if each.corruption == name] for name in names}
    top = max(max(each.reference, each.candidate) for each in (outcome.clean, *outcome.results)) * 100
    return render(
        "robustness.html",
        outcome=outcome,
        rows=rows,
        plots={name: _plot([outcome.clean, *row], name, top) for name, row in rows.items()},
        samples=[show(sample) for sample in samples],
    )


def _plot(results: Sequence[RobustnessResult], name: str, top_percent: float) -> Markup:
    def draw(axes: Axes) -> None:
        severity = [result.severity for result in results]
        axes.plot(severity, [each.reference * 100 for each in results], "o-", color=FLOAT, label="FP32")
        axes.plot(severity, [each.candidate * 100 for each in results], "s-", color=ACCENT, label="INT8")
        axes.set_ylim(0, max(1.0, top_percent * 1.08))
        axes.set_xticks(severity, ["clean", *map(str, severity[1:])])
        axes.set_ylabel("%")
        axes.legend(loc="lower left", fontsize=9)

    return plot(draw, describes=f"FP32 and INT8 over the severity of {name}")
