"""`edge-agent probe`: what device this is, what can run on it, what `run` would take."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.common import FILE, make_console, reader_may_leave, state_dir_of
from agent.errors import ServiceAway


@click.command()
@click.option(
    "--model",
    type=FILE,
    metavar="BUNDLE",
    help="Plan for this bundle; default: the starter (80 labels of COCO).",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option(
    "--root",
    type=FILE,
    default=Path("/"),
    metavar="DIR",
    help="A copy of a device's /proc, /sys, /etc and /var/lib/dpkg/status: tell about that device.",
)
@click.option(
    "--config", type=FILE, envvar="EDGE_AGENT_CONFIG", metavar="FILE", help="Plan for the agent of this file."
)
@click.option(
    "--state", "state_dir", type=FILE, metavar="DIR", help="Where `tune` kept what it measured, as for `run`."
)
@reader_may_leave()
def probe(
    *, model: Path | None, as_json: bool, root: Path, config: Path | None, state_dir: Path | None
) -> None:
    """Tell what device this is, what can run on it, and what `run` would take.

    Exit codes: 0 done, also on boards it does not know; 65 bad bundle; 66 bundle or DIR missing; 69 nothing
    here can run the model (the report is printed all the same).
    """
    import msgspec

    from agent.probe import print_report
    from agent.probe import probe as look
    from agent.starter import starter_bundle

    kept = (state_dir or state_dir_of(config)) if root == Path("/") else None
    report = look(model or starter_bundle(), root, state_dir=kept)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        print_report(report, make_console())
    if report.plan.backend is None:
        rejected = report.plan.rejected
        raise ServiceAway(
            f"nothing here can run {report.model}",
            seen="; ".join(f"{r.backend}: {r.reason}" for r in rejected),
            fix=next((r.fix for r in rejected if r.backend == "litert"), ""),
        )
