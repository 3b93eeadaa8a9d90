"""Figures for people, in 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from rich.markup import escape
from rich.table import Table

from calibration.wording import counted, figure_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from calibration.bootstrap import Figure
    from calibration.compare import Comparison, Side
    from calibration.verdict import Verdict, Verification

_COLOUR = {"passed": "green", "reference": "default", "unmeasured": "yellow", "below": "red", "broken": "red"}
WORDS = {
    "agreement": "agreement",
    "top1_agreement": "top-1 with reference",
    "score_shift": "score shift",
    "label_flips": "label flips",
    "flicker": "flicker",
    "map": "mAP (labels)",
    "map50": "mAP50 (labels)",
    "top1": "top-1 (labels)",
}
"""Figures by name, in the order of their rows."""
HEADS = ("A", "B")
_MOST_SKIPPED = 5
_MOST_WORST = 5


def print_verification(console: Console, found: Verification) -> None:
    """Print what `verify` found: a block an artifact, a row a figure with its interval."""
    console.print(
        f"[bold]{escape(found.model)} {found.version}[/], {_seen(found)}, "
        f"reference {escape(found.reference or 'none')}, floor {figure_name(found.metric)} {found.floor:g}"
    )
    table = Table(box=None, pad_edge=False)
    for head, justify in (("artifact", "left"), ("figure", "left"), ("value", "right"), ("95 %", "left")):
        table.add_column(head, justify="right" if justify == "right" else "left", overflow="fold")
    for verdict in found.artifacts:
        _add(table, verdict)
    console.print(table)
    for verdict in found.artifacts:
        if verdict.reason:
            colour = _COLOUR[verdict.state]
            console.print(f"[{colour}]{verdict.state}[/] {escape(verdict.file)}: {escape(verdict.reason)}")
    _print_skipped(console, found.skipped)
    console.print(f"[bold]{found.state}[/]")


def _seen(found: Verification | Comparison) -> str:
    return f"{counted(found.frames, 'frame')} of {counted(found.clips, 'clip')}"


def _add(table: Table, verdict: Verdict) -> None:
    about = [
        escape(verdict.file),
        f"{verdict.precision}, {verdict.backend or 'does not run'}",
        f"[{_COLOUR[verdict.state]}]{verdict.state}[/]",
    ]
    rows = [(WORDS[name], *shown(verdict.figures[name])) for name in WORDS if name in verdict.figures]
    rows += [("", "", "")] * (len(about) - len(rows))
    about += [""] * (len(rows) - len(about))
    for words, row in zip(about, rows, strict=True):
        table.add_row(words, *row)
    table.add_section()


def shown(figure: Figure) -> tuple[str, str]:
    """Return value and interval as text."""
    value, low, high = (f"{round(each, 3) + 0.0:.3f}" for each in msgspec.structs.astuple(figure))
    return value, f"{low} to {high}"


def _print_skipped(console: Console, skipped: dict[str, str]) -> None:
    for name, why in list(skipped.items())[:_MOST_SKIPPED]:
        console.print(f"skipped {escape(name)}: {escape(why)}")
    if len(skipped) > _MOST_SKIPPED:
        console.print(f"skipped {len(skipped) - _MOST_SKIPPED} more files")


def comparison_rows(found: Comparison) -> list[tuple[str, str, str]]:
    """Return the rows of a comparison: what, of A, of B."""
    rows = [(name, value(found.a), value(found.b)) for name, value in _SIDE.items()]
    for name, words in WORDS.items():
        if name in found.a.figures or name in found.b.figures:
            rows.append((words, _whole(found.a.figures.get(name)), _whole(found.b.figures.get(name))))
    if found.speed:
        rows.append(("times as fast as A", "1", _whole(found.speed)))
    for name, figure in (("B finds what A finds", found.a_in_b), ("A finds what B finds", found.b_in_a)):
        rows.append((name, "", _whole(figure) if figure else "too few objects"))
    return rows


def print_comparison(console: Console, found: Comparison) -> None:
    """Print what `compare` found, and the frames where the two disagree most."""
    console.print(f"{_seen(found)}, {counted(found.labels_in_common, 'label')} in common")
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for head in HEADS:
        table.add_column(head, overflow="fold")
    for row in comparison_rows(found):
        table.add_row(*map(escape, row))
    console.print(table)
    for name, boxes in list(found.worst.items())[:_MOST_WORST]:
        console.print(f"{boxes} boxes that only one has: {escape(name)}")
    _print_skipped(console, found.skipped)


def _whole(figure: Figure | None) -> str:
    return " (".join(shown(figure)) + ")" if figure else "-"


def _memory(side: Side) -> str:
    return "-" if side.rss_mb is None else f"{side.rss_mb:.0f} MB"


_SIDE: dict[str, Callable[[Side], str]] = {
    "model": lambda side: f"{side.model} {side.version}",
    "artifact": lambda side: f"{side.file}, {side.precision}, {side.backend}",
    "size": lambda side: f"{side.bytes / 1e6:.1f} MB",
    "ms a frame": lambda side: f"{side.ms:.1f}",
    "peak memory": _memory,
    "objects": lambda side: f"{side.objects}",
}
"""What is told of each side, by the row's name."""
