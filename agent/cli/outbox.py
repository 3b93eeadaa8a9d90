"""`edge-agent outbox`: what waits for the broker, and whether the accounts of it add up."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import FILE, make_console, reader_may_leave, state_dir_of

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from agent.outbox.audit import Audit, LaneAudit

_COUNTS = ("allocated", "confirmed", "queued", "evicted", "rejected", "corrupt")


@click.group()
def outbox() -> None:
    """Look into the outbox: what waits for the broker."""


@outbox.command()
@click.option(
    "--config", type=FILE, envvar="EDGE_AGENT_CONFIG", metavar="FILE", help="The agent of this file."
)
@click.option("--state", "state_dir", type=FILE, metavar="DIR", help="The agent with this state directory.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@reader_may_leave()
def status(config: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Check that allocated = confirmed + queued + evicted + corrupt, for each epoch and lane.

    Reads the file as it was committed last, beside a running agent or without one, and changes nothing.

    Exit codes: 0 it holds; 1 it does not, or the file is damaged; 66 there is no outbox.
    """
    from agent.outbox.audit import audit, outboxes

    audits = [audit(path) for path in outboxes(state_dir or state_dir_of(config))]
    if as_json:
        holds = all(one.holds for one in audits)
        click.echo(json.dumps({"holds": holds, "outboxes": list(map(_document, audits))}, indent=2))
    else:
        console = make_console()
        for one in audits:
            console.print(_table(one))
            console.print(_facts(one), soft_wrap=True)
    raise SystemExit(not all(one.holds for one in audits))


def _document(one: Audit) -> dict[str, Any]:
    return {
        "path": str(one.path),
        "holds": one.holds,
        "damage": one.damage or None,
        "epochs": [
            {"epoch": epoch.epoch, "boot_id": epoch.boot_id, "lanes": _lanes(epoch.lanes)}
            for epoch in one.epochs
        ],
        "totals": _lanes(one.totals),
        "notes": list(one.notes),
        "bytes": one.size_bytes,
        "set_aside": list(one.set_aside),
    }


def _lanes(lanes: tuple[LaneAudit, ...]) -> dict[str, dict[str, int | bool | str]]:
    return {
        lane.lane: {name: value for name, value in asdict(lane).items() if name != "lane"}
        | {"holds": lane.holds}
        for lane in lanes
    }


def _table(one: Audit) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("epoch", no_wrap=True)
    table.add_column("lane")
    for name in _COUNTS:
        table.add_column(name, justify="right")
    table.add_column("holds")
    groups = [(epoch.epoch, epoch.lanes) for epoch in one.epochs]
    for name, lanes in [*groups, ("all", one.totals)]:
        for lane in lanes:
            holds = Text("yes") if lane.holds else Text("NO", style="bold red")
            counts = (str(getattr(lane, count)) for count in _COUNTS)
            table.add_row(Text(name[:8]), lane.lane, *counts, holds)
    return table


def _facts(one: Audit) -> str:
    facts = [f"{one.path}: {one.size_bytes / 1e6:.1f} MB, {len(one.notes)} notes"]
    facts += [f"damaged: {one.damage}; the agent repairs it at its next start"] if one.damage else []
    facts += [f"damaged files kept: {', '.join(one.set_aside)}"] if one.set_aside else []
    return "\n".join(facts)
