"""`report.json` and `report.html` of a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.wholefile import write_whole
from calibration.record import REPORT, dump
from calibration.report.page import render
from calibration.report.plots import histogram_plot, layer_plot, size_plot, speed_plot
from calibration.report.samples import show

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from markupsafe import Markup

    from calibration.record import LayerError, Report, Search
    from calibration.report.samples import Sample

PAGE = "report.html"
WORST_LAYERS = 12


def write_report(report: Report, folder: Path, samples: Sequence[Sample] = ()) -> None:
    """Write both files into `folder`; the same report and samples give the same bytes.

    Raises CannotCreate, and InputMissing without OpenCV.
    """
    page = report_page(report, samples)
    write_whole(folder / REPORT, dump(report))
    write_whole(folder / PAGE, page)


def report_page(report: Report, samples: Sequence[Sample] = ()) -> bytes:
    """Return `report.html`. Raises InputMissing without OpenCV."""
    return render(
        "report.html",
        report=report,
        plots=_search_plots(report.search),
        worst=_worst(report.search),
        histograms=[(each.file, histogram_plot(each)) for each in report.histograms],
        samples=[show(sample) for sample in samples],
    )


def _search_plots(search: Search | None) -> dict[str, Markup]:
    if search is None:
        return {}
    plots = {"speed": speed_plot(search), "size": size_plot(search)}
    return plots | ({"layers": layer_plot(search.layers, search.damage_unit)} if search.layers else {})


def _worst(search: Search | None) -> list[LayerError]:
    """Return the layers that cost most, the worst first."""
    harmful = [layer for layer in (search.layers if search else ()) if layer.damage > 0]
    return sorted(harmful, key=lambda layer: -layer.damage)[:WORST_LAYERS]
