"""A fleet as a table for a terminal: a summary, then one page of devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.fleet.devices import Device, Summary

STYLES = {
    "stuck": "bold red",
    "offline": "red",
    "degraded": "yellow",
    "silent": "yellow",
    "unknown": "magenta",
    "ok": "green",
}
_KINDS = 4
_HEADS = ("device", "health", "version", "model", "fps", "p95 ms", "°C", "drops", "gaps", "seen")
_LINES_AROUND = 6


def page_size(height: int) -> int:
    """Return how many devices fit into a terminal of so many lines."""
    return max(1, height - _LINES_AROUND)


def view(
    devices: Sequence[Device], seen: Summary, *, first: int = 0, count: int | None = None, note: str = ""
) -> Group:
    """Return the summary, the rows `first` to `first + count` (None: all), and where in the list that is."""
    end = len(devices) if count is None else min(len(devices), first + count)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for index, head in enumerate(_HEADS):
        short = {"no_wrap": True, "overflow": "ellipsis"}
        table.add_column(head, justify="left" if index < 4 else "right", **short)  # type: ignore[arg-type]
    for device in devices[first:end]:
        table.add_row(*_row(device))
    place = f"{first + 1} to {end} of {len(devices)}" if end - first < len(devices) else ""
    return Group(*_heads(seen), table, Text("  ".join(filter(None, (place, note))), "dim"))


def _heads(seen: Summary) -> list[Text]:
    health = Text(f"{seen.devices} devices:")
    for name, number in seen.health.items():
        health.append("  ").append(f"{number} {name}", STYLES[name])
    return [health, _counts("versions", seen.versions), _counts("models", seen.models)]


def _counts(what: str, counts: dict[str, int]) -> Text:
    shown = [f"{name} on {number}" for name, number in list(counts.items())[:_KINDS]]
    if len(counts) > _KINDS:
        shown.append(f"{len(counts) - _KINDS} more")
    return Text(f"{what}: {', '.join(shown)}", no_wrap=True, overflow="ellipsis")


def _row(device: Device) -> list[Text]:
    numbers = device.numbers
    latency_ms = None if numbers.latency_s is None else numbers.latency_s * 1e3
    heat = _number(numbers.temperature_c, ".0f") + ("!" if numbers.slowed else "")
    return [
        Text(device.name),
        Text(device.health, STYLES[device.health]),
        Text(device.version),
        Text(device.model),
        Text(_number(numbers.fps, ".3g")),
        Text(_number(latency_ms, ".3g")),
        Text(heat, "yellow" if numbers.slowed else ""),
        Text(_number(numbers.drops, "d")),
        Text(_number(numbers.gaps, "d"), "red" if numbers.gaps else ""),
        Text(_age(device.seen_s)),
    ]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _age(seen_s: float | None) -> str:
    if seen_s is None:
        return "-"
    return f"{seen_s:.0f} s" if seen_s < 120 else f"{seen_s / 60:.0f} min"
