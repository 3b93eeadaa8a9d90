"""`edge-agent status`: how the agent that runs on this device does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.asking import of_agent, running_agent, wanted_state_dir
from agent.cli.common import make_console, reader_may_leave

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from agent.status import Status

_STYLES = {"ok": "green", "degraded": "yellow", "stuck": "bold red"}


@click.command()
@of_agent
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@reader_may_leave()
def status(config: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Tell how the agent that runs here does: its verdict, cameras, broker and outbox.

    Without --config and --state that is the service, or else the one with this user's state directory.

    Exit codes: 0 ok; 1 degraded or stuck; 69 no agent runs there; 77 its socket is not for this user.
    """
    import msgspec

    _, answer = running_agent(state_dir or wanted_state_dir(config))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
    else:
        _print(answer, make_console())
    raise SystemExit(answer.verdict != "ok")


def _print(seen: Status, console: Console) -> None:
    from rich.text import Text

    head = f"edge-agent {seen.version} on {seen.device}, up {_span(seen.uptime_s)}, process {seen.pid}"
    console.print(Text(seen.verdict, _STYLES[seen.verdict]), Text(head))
    if seen.reasons:
        console.print(_reasons(seen))
    console.print()
    console.print(_cameras(seen))
    console.print()
    console.print(_rest(seen))


def _reasons(seen: Status) -> Table:
    from rich.table import Table

    table = Table.grid("", "", padding=(0, 1, 0, 0))
    for reason in seen.reasons:
        table.add_row(*_texts(("-", reason)))
    return table


def _cameras(seen: Status) -> Table:
    table = _table("camera", "state", "for", "fps", "frames", "inferred", "skipped", "replaced", "events")
    for camera in seen.cameras:
        counts = (camera.frames, camera.inferred, camera.not_sampled + camera.suppressed, camera.replaced)
        row = (
            camera.name,
            camera.state,
            _span(camera.for_s),
            f"{camera.rate_hz:.3g}",
            *counts,
            camera.events,
        )
        table.add_row(*_texts(row))
    return table


def _rest(seen: Status) -> Table:
    table = _table()
    for row in _rows(seen):
        table.add_row(*_texts(row))
    return table


def _rows(seen: Status) -> Iterator[tuple[str, str]]:
    way, box = seen.broker, seen.outbox
    link = f"connected ({way.protocol})" if way.connected else f"away: {way.error or 'not connected yet'}"
    counts = f"{way.delivered} delivered, {way.in_flight} in flight, {way.rejected} rejected"
    yield ("sink" if way.protocol == "file" else "broker"), f"{link}, {counts}"
    for name, lane in box.lanes.items():
        lost = f", {lane.evicted} given up, {lane.corrupt} damaged" if lane.evicted or lane.corrupt else ""
        yield f"lane {name}", f"{lane.allocated} made, {lane.confirmed} confirmed, {lane.queued} queued{lost}"
    kept = "" if box.durable else ", in memory alone"
    share = f"{box.used_bytes / 2**20:.1f} of {box.max_bytes / 2**20:.0f} MiB"
    for engine in seen.engines:
        took = (
            f", p50 {engine.infer_ms.p50:.0f} ms, p95 {engine.infer_ms.p95:.0f} ms" if engine.infer_ms else ""
        )
        yield f"model {engine.model}", f"{engine.artifact} ({engine.precision}) on {engine.backend}{took}"
        if engine.building:
            yield "building", engine.building
    if (model := seen.model) is not None and model.state in {"pending", "committed"}:
        yield "installed", f"{model.name} v{model.version} ({model.bundle_sha[:12]}), {model.state}"
    yield "outbox", f"{box.queued} queued, {share}{kept}"
    yield "clock", f"{seen.time}, {'synchronised' if seen.clock_synced else 'no time server has set it'}"
    yield "state directory", seen.state_dir


def _table(*heads: str) -> Table:
    from rich.table import Table

    table = Table(box=None, show_header=bool(heads), pad_edge=False, padding=(0, 2, 0, 0))
    for index, head in enumerate(heads or ("", "")):
        table.add_column(head, justify="right" if heads and index > 1 else "left", overflow="fold")
    return table


def _texts(row: tuple[object, ...]) -> Iterator[Text]:
    from rich.text import Text

    return (Text(str(value)) for value in row)


def _span(seconds_s: float) -> str:
    """Return a length of time in its two largest units."""
    whole = int(seconds_s)
    for unit, size, below, smaller in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {below}"
    return f"{whole} s"
