"""The report as a picture: stage times beside the engine's, processor time, rates, and the spread of the rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from agent.bench.figures import other_cpu_ms, rate_hz
from agent.bench.report import BASELINE, CAMERAS, IDLE, PIPELINE, SAMPLED
from agent.drawing import ACCENTS, BACKGROUND, DIM, TEXT, write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from agent.bench.figures import Round, Run
    from agent.bench.report import Report
    from agent.drawing import Colour

    Picture = NDArray[np.uint8]

_WIDTH_PX, _ROW_PX, _HEAD_PX, _GAP_PX = 1000, 30, 48, 18
_LABEL_PX, _VALUE_PX = 300, 150
_TRACK: Colour = (50, 44, 40)
_ENGINE, _OURS, _OTHER = ACCENTS[1], ACCENTS[0], ACCENTS[2]
_BAR_SHARE = 0.6
_DOT_PX = 5
_HEADROOM = 1.02


class _Row(NamedTuple):
    """One line of a panel: a bar up to `value`, or `dots` (value, whether filled)."""

    label: str
    value: float
    text: str
    colour: Colour
    dots: tuple[tuple[float, bool], ...] = ()


def draw(cv2: Any, report: Report) -> bytes:
    """Return the picture as PNG."""
    setting = report.setting
    info, clip = setting.engine, setting.clip
    title = _strip(_HEAD_PX)
    used_px = write_text(cv2, title, "edge-agent bench", x=_GAP_PX, size=0.8, colour=TEXT, bold=True)
    subtitle = (
        f"{setting.model}, {info.precision}, {info.threads} thread(s); {clip.width_px}x{clip.height_px}"
    )
    write_text(cv2, title[:, used_px:], f"{subtitle} {clip.codec}", x=-_GAP_PX, size=0.5, colour=DIM)
    panels = [
        _panel(cv2, "Stages, one after the other, ms a frame (bar: mean; line: the engine)", _stages(report)),
        _panel(cv2, "Processor time without the engine, ms a source frame", _cpu(report)),
        _panel(cv2, "Inferences a second", _rates(report)),
        _panel(cv2, "Share, round by round (line: median; filled: quiet rounds)", _shares(report)),
    ]
    picture = np.vstack([title, *panels, _strip(_GAP_PX)])
    done, png = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not done:
        raise RuntimeError("OpenCV can't encode PNG")
    return bytes(png)


def _stages(report: Report) -> list[_Row]:
    rows = []
    for name in ("infer", "decode", "prepare", "finish"):
        if name in report.stages_alone:
            times = report.stages_alone[name]
            text = f"{times.mean_ms:.2f}  (p95 {times.p95_ms:.2f})"
            rows.append(_Row(name, times.mean_ms, text, _ENGINE if name == "infer" else _OURS))
    return rows


def _cpu(report: Report) -> list[_Row]:
    rows = [
        _row("agent, every frame inferred", report.cpu_ms_per_frame, 2, _OURS),
        _row("agent, 5 inferences a second", report.sampled_cpu_ms_per_frame, 2, _OURS),
    ]
    if report.idle_cpu_ms_per_frame is not None:
        rows.append(_row("agent, idle: key frames alone", report.idle_cpu_ms_per_frame, 2, _OURS))
    if report.idle_paced_cpu_ms_per_frame is not None:
        rows.append(_row("agent, idle at camera pace", report.idle_paced_cpu_ms_per_frame, 2, _OURS))
    beside = [other_cpu_ms(run) for one in report.raw.sampled for run in one.references]
    if beside:
        rows.append(_row("OpenCV loop, 5 inferences a second", float(np.median(beside)), 2, _OTHER))
    if report.grab_cpu_ms_per_frame is not None:
        rows.append(_row("OpenCV loop with grab", report.grab_cpu_ms_per_frame, 2, _OTHER))
    return rows


def _rates(report: Report) -> list[_Row]:
    return [
        _row("engine alone", report.engine_limit_fps, 1, _ENGINE),
        _row("agent", report.pipeline_fps, 1, _OURS),
        _row(_baseline(report), report.spreads["baseline_fps"].median, 1, _OTHER),
    ]


def _shares(report: Report) -> list[_Row]:
    raw = report.raw
    rows = [
        _dots("agent's rate / engine's", raw.rates, PIPELINE, rate_hz, _OURS),
        _dots(f"{_baseline(report)}'s / engine's", raw.rates, BASELINE, rate_hz, _OTHER),
    ]
    if raw.sampled[0].references:
        rows.append(_dots("agent's CPU / OpenCV loop's", raw.sampled, SAMPLED, other_cpu_ms, _OURS))
    if "idle_cpu_vs_naive" in report.spreads:
        rows.append(_dots("agent's CPU in idle / OpenCV loop's", raw.idle, IDLE, other_cpu_ms, _OURS))
    if raw.shared:
        label = f"rate of {report.setting.cameras} cameras / of one"
        rows.append(_dots(label, raw.shared, CAMERAS, rate_hz, _OURS))
    return rows


def _baseline(report: Report) -> str:
    return "OpenCV loop" if report.setting.baseline == "naive" else "plain loop"


def _row(label: str, value: float, digits: int, colour: Colour) -> _Row:
    return _Row(label, value, f"{value:.{digits}f}", colour)


def _dots(
    label: str, rounds: Sequence[Round], name: str, value: Callable[[Run], float], colour: Colour
) -> _Row:
    dots = tuple((one.ratio(name, value), one.quiet_beside(name)) for one in rounds)
    median = float(np.median([ratio for ratio, _ in dots]))
    return _Row(label, median, f"{median:.3f}", colour, dots)


def _panel(cv2: Any, title: str, rows: Sequence[_Row]) -> Picture:
    """Draw `rows` on one scale, from 0 to the largest value and a little more."""
    head = _strip(_HEAD_PX)
    write_text(cv2, head, title, x=_GAP_PX, size=0.55, colour=TEXT, bold=True)
    largest = max(max((row.value, *(dot for dot, _ in row.dots))) for row in rows)
    marked = next((row.value for row in rows if row.colour == _ENGINE), None)
    return np.vstack([head, *(_draw_row(cv2, row, _HEADROOM * largest or 1.0, marked) for row in rows)])


def _draw_row(cv2: Any, row: _Row, largest: float, marked: float | None) -> Picture:
    strip = _strip(_ROW_PX)
    write_text(cv2, strip[:, :_LABEL_PX], row.label, x=_GAP_PX, size=0.45, colour=DIM)
    write_text(cv2, strip[:, -_VALUE_PX:], row.text, x=8, size=0.45, colour=TEXT)
    bar = strip[:, _LABEL_PX:-_VALUE_PX]
    high = round(_ROW_PX * _BAR_SHARE)
    top, span_px = (_ROW_PX - high) // 2, bar.shape[1] - 1
    bar[top : top + high] = _TRACK
    if row.dots:
        _draw_dots(cv2, bar, row, span_px / largest)
    else:
        bar[top : top + high, : max(1, round(row.value / largest * span_px))] = row.colour
    if marked is not None:
        x = round(marked / largest * span_px)
        bar[:, max(0, x - 1) : x + 1] = _ENGINE
    return strip


def _draw_dots(cv2: Any, bar: Picture, row: _Row, px_per_unit: float) -> None:
    x, middle = round(row.value * px_per_unit), _ROW_PX // 2
    bar[2:-2, max(0, x - 1) : x + 1] = row.colour
    picture = np.ascontiguousarray(bar)
    for value, filled in row.dots:
        at = (round(value * px_per_unit), middle)
        cv2.circle(picture, at, _DOT_PX, row.colour, cv2.FILLED if filled else 1, cv2.LINE_AA)
    bar[:] = picture


def _strip(height_px: int) -> Picture:
    return np.full((height_px, _WIDTH_PX, 3), BACKGROUND, np.uint8)
