"""Plots as SVG that stands in a page: no file, no date, the same bytes for the same numbers."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from calibration.record import CurvePoint, LayerError, ScoreHistogram, Search

INK, FAINT, ACCENT, FLOAT, WARN = "#22262b", "#9aa2ab", "#0b7a52", "#2f6fb4", "#c2410c"
_WIDTH_IN, _HEIGHT_IN = 5.2, 3.2
_METADATA = re.compile(r"<metadata>.*?</metadata>\s*", re.DOTALL)
_OPENING = re.compile(r'<svg\b[^>]*(?P<box>viewBox="[^"]+")[^>]*>')
_NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "edge-calibrate",
    "svg.fonttype": "none",  # text stays text: small, and the reader's own font
    "font.family": "sans-serif",
    "font.size": 10.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e8eb",
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.edgecolor": "none",
    "legend.facecolor": "white",
}


def plot(draw: Callable[[Axes], None], *, describes: str) -> Markup:
    """Return the SVG of what `draw` puts on the axes; `describes` is its text for those who can't see it."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), layout="constrained")
        draw(figure.add_subplot())
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    svg = _METADATA.sub("", written.getvalue())
    opening = _OPENING.search(svg)
    if opening is None:
        raise ValueError("matplotlib wrote no <svg>")
    inline = f'<svg {opening["box"]} {_NAMESPACES} role="img" aria-label="{Markup.escape(describes)}">'
    return Markup(inline + svg[opening.end() :])  # noqa: S704 - numbers, and text that matplotlib has escaped


def speed_plot(search: Search) -> Markup:
    """Accuracy against the time of one inference, with the float network's time, the floor and the choice."""
    middle = sorted(search.points, key=lambda point: point.ms_float)[len(search.points) // 2]

    def draw(axes: Axes) -> None:
        _trade_off(axes, search, [point.ms for point in search.points])
        axes.axvline(middle.ms_float, color=FLOAT, linewidth=1.2, linestyle=":", label="float")
        axes.set_xlabel("ms per inference, 1 thread")
        axes.legend(loc="lower right", fontsize=9)

    return plot(draw, describes="Accuracy against speed of every point of the search")


def size_plot(search: Search) -> Markup:
    """Accuracy against the file's size."""

    def draw(axes: Axes) -> None:
        _trade_off(axes, search, [point.bytes / 1e6 for point in search.points])
        axes.set_xlabel("size in MB")
        axes.legend(loc="lower right", fontsize=9)

    return plot(draw, describes="Accuracy against size of every point of the search")


def _trade_off(axes: Axes, search: Search, x: Sequence[float]) -> None:
    y = [_percent(point) for point in search.points]
    axes.scatter(x, y, s=26, color=FAINT, zorder=2, label="tried")
    axes.scatter(
        [x[search.chosen]], [y[search.chosen]], s=130, marker="*", color=ACCENT, zorder=4, label="chosen"
    )
    axes.axhline(search.floor * 100, color=WARN, linewidth=1.2, linestyle="--", label="aim")
    axes.set_ylabel("accuracy, %")
    axes.margins(0.12)


def _percent(point: CurvePoint) -> float:
    return point.accuracy * 100


def layer_plot(layers: Sequence[LayerError], unit: str) -> Markup:
    """Damage of each operator the worst first."""

    def draw(axes: Axes) -> None:
        damage = sorted((layer.damage for layer in layers), reverse=True)
        axes.bar(range(len(layers)), damage, width=0.9, color=FLOAT)
        axes.set_xlabel("operators, the worst first")
        axes.set_ylabel(unit)
        axes.margins(x=0.01)

    return plot(draw, describes="Damage of each operator when it is quantized")


def histogram_plot(histogram: ScoreHistogram) -> Markup:
    """How many scored how high: the reference filled, the candidate as a line."""

    def draw(axes: Axes) -> None:
        axes.stairs(histogram.reference, histogram.edges, fill=True, color=FLOAT, alpha=0.35, label="FP32")
        axes.stairs(histogram.candidate, histogram.edges, color=ACCENT, linewidth=1.6, label=histogram.file)
        if max((*histogram.reference, *histogram.candidate), default=0) > 0:
            axes.set_yscale("symlog", linthresh=1)
        axes.set_xlabel("score")
        axes.set_ylabel("how many")
        axes.legend(loc="upper right", fontsize=9)

    return plot(draw, describes=f"Scores of FP32 and of {histogram.file}")
