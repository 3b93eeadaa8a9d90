"""A tuning as a table of 80 columns, with a sentence what was chosen and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from agent.measured import choose, factor, told
from agent.tune.candidates import NO_CORE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

    from agent.measured import Measured, Tuning

_NUMBERS = ("threads", "p50 ms", "p95 ms", "MB", "times")
_COLUMNS = ("candidate", "threads", "delegate", *_NUMBERS[1:], "")


def print_tuning(tuning: Tuning, kept: Path | None, console: Console) -> None:
    """Print what was measured, what was chosen and where that is `kept`."""
    device, best = tuning.device, choose(tuning.measured)
    console.print(f"{tuning.model} on {device.board}, {_plural(device.usable_cpus, 'CPU')}", markup=False)
    console.print(_table(tuning, best))
    for line in (*_batches(tuning), *_not_taken(tuning), *_heat(tuning)):
        console.print(line, markup=False)
    for note in tuning.notes:
        console.print(f"! {note}", style="bold red", markup=False)
    if best is not None:
        console.print(f"\n{told(tuning, best)}", style="bold", markup=False)
        console.print(f"the fastest that may be taken; `run` takes it: {kept}", markup=False, soft_wrap=True)


def _table(tuning: Tuning, best: Measured | None) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name in _NUMBERS else "left", no_wrap=True)
    for each in tuning.measured:
        table.add_row(*map(Text, _row(each, best)), style="bold" if each is best else None)
    return table


def _row(each: Measured, best: Measured | None) -> tuple[str, ...]:
    choice, remark = each.choice, each.objection and "not taken"
    on_cpu = choice.backend != "tensorrt"
    if each is best or each.objection == NO_CORE:
        remark = "chosen" if each is best else "all cores"
    return (
        f"{choice.backend} {choice.precision}" + (f" x{choice.batch}" if choice.batch > 1 else ""),
        str(choice.threads) if on_cpu else "",
        ("on" if choice.delegate else "off") if on_cpu else "",
        _number(each.p50_ms, 1),
        _number(each.p95_ms, 1),
        _number(each.peak_rss_mb, 0),
        _number(factor(best, each) if best else None, 2),
        remark,
    )


def _not_taken(tuning: Tuning) -> Iterator[str]:
    for each in tuning.measured:
        if each.objection not in {"", NO_CORE}:
            yield f"not taken: {each.choice}: {each.objection}"
    for line in tuning.absent:
        yield f"not measured: {line}"


def _batches(tuning: Tuning) -> Iterator[str]:
    for each in tuning.measured:
        if each.batch_ms is not None:
            yield (
                f"{each.choice}: {each.batch} pictures at once {each.batch_ms:.1f} ms,"
                f" {each.batch_ms / each.batch:.1f} ms each"
            )


def _heat(tuning: Tuning) -> Iterator[str]:
    before = next((each.before_c for each in tuning.measured if each.before_c is not None), None)
    after = next((each.after_c for each in reversed(tuning.measured) if each.after_c is not None), None)
    if before is not None and after is not None:
        yield f"hottest zone: {before:.0f} C before, {after:.0f} C after"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
