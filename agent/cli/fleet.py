"""`edge-agent fleet`: releases for many devices, and a view of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agent.cli.broker import broker_options, chosen_broker
from agent.cli.common import FILE, interrupts, make_console, reader_may_leave
from agent.errors import UsageError

_NOBODY = "edge-agent: no device seen on {}/+/status: check --topic-root, and what this login may read"


@click.group()
def fleet() -> None:
    """Make a release to install from, and watch all devices."""


@fleet.command()
@click.argument("source", type=FILE, required=False)
@click.option("--out", type=FILE, metavar="DIR", help="The folder of releases; a new one is made in it.")
@click.option("--verify", "there", type=FILE, metavar="RELEASE", help="Check this release instead.")
@click.option(
    "--python", "pythons", multiple=True, metavar="3.11", help="A Python of devices; may be repeated."
)
@click.option("--platform", "platforms", multiple=True, metavar="aarch64", help="A machine; may be repeated.")
@click.option(
    "--extra", "extras", multiple=True, metavar="NAME", help="An extra of edge-agent, such as opencv."
)
@click.option(
    "--offline", type=FILE, metavar="WHEELS", help="Take all wheels from this folder, none from the network."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@reader_may_leave()
def pack(source: Path | None, out: Path | None, there: Path | None, as_json: bool, **given: Any) -> None:
    """Make a release of SOURCE, a checkout (default: the current directory) or a wheel of edge-agent.

    It holds every wheel of the pinned closure with its hash, a bill of materials and the licences. Default:
    Python 3.11 on aarch64.

    Exit codes: 65 no such wheels, a damaged release; 66 no source; 73 can't write.
    """
    import msgspec

    from agent.fleet import pack as packing
    from agent.fleet.release import verify

    if (out is None) == (there is None):
        raise UsageError("nothing to do", fix="give --out DIR to make a release, or --verify RELEASE")
    if there is not None:
        place, release = there, verify(there)
    else:
        place, release = packing.pack(
            source or Path(),
            out or Path(),
            pythons=given["pythons"] or ("3.11",),
            platforms=given["platforms"] or ("aarch64",),
            extras=given["extras"],
            offline=given["offline"],
            tell=lambda line: click.echo(line, err=True),
        )
    if as_json:
        click.echo(msgspec.json.encode({"path": str(place.absolute()), **msgspec.to_builtins(release)}))
    else:
        click.echo(place)


@fleet.command()
@broker_options
@click.option(
    "--filter",
    "matching",
    default="",
    metavar="TEXT",
    help="Show those with TEXT in name, health, version or model.",
)
@click.option("--once", is_flag=True, help="Print all devices once; always so where output is no terminal.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0),
    default=35.0,
    show_default=True,
    metavar="S",
    help="With --once: how long to wait for numbers, which devices tell twice a minute.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, once.")
@reader_may_leave()
def watch(matching: str, once: bool, wait_s: float, as_json: bool, **given: Any) -> None:
    """Show all devices of a broker, the worst first: health, version, model and numbers.

    Exit codes with --once and --json: 0 all are ok; 1 some are not, or there is none; 69 broker away; 77 refused.
    """
    import time

    import msgspec

    from agent.fleet import watch as watching
    from agent.fleet.devices import summary
    from agent.fleet.table import view

    options, root = chosen_broker(given)
    console = make_console()
    with interrupts() as stop:
        if not (once or as_json) and console.is_terminal:
            watching.follow(options, root, console=console, matching=matching, stopping=stop.is_set)
            return
        seen = watching.look(options, root, wait_s=wait_s, stopping=stop.is_set)
    devices = seen.devices(time.monotonic(), matching=matching)
    counts = summary(devices)
    if as_json:
        click.echo(msgspec.json.encode({"summary": counts, "devices": devices}))
    else:
        console.print(view(devices, counts))
    if not devices:
        click.echo(_NOBODY.format(root), err=True)
    raise SystemExit(counts.health.keys() != {"ok"})
