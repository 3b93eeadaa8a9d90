"""`edge-agent`: the command line. Each command is a few lines that call the module which does the work."""

from __future__ import annotations

from typing import NoReturn, get_args

import click

from agent import __version__, log
from agent.cli.shell import CONTEXT, lazy_group, run

COMMANDS = {
    "run": "agent.cli.run:run",
    "demo": "agent.cli.demo:demo",
    "config": "agent.cli.config:config",
    "model": "agent.cli.model:model",
    "probe": "agent.cli.probe:probe",
    "cameras": "agent.cli.cameras:cameras",
    "clips": "agent.cli.clips:clips",
    "check": "agent.cli.check:check",
    "status": "agent.cli.status:status",
    "outbox": "agent.cli.outbox:outbox",
    "events": "agent.cli.events:events",
    "system": "agent.cli.system:system",
    "bench": "agent.cli.bench:bench",
}
"""Where each command is; imported when it is asked for, so that none pays for the others."""


@click.group(cls=lazy_group(COMMANDS), context_settings=CONTEXT)
@click.version_option(__version__, "-V", "--version", prog_name="edge-agent")
@click.option("-v", "--verbose", count=True, help="Say more; -vv for everything.")
@click.option(
    "--log-format",
    type=click.Choice(get_args(log.Form)),
    default="auto",
    show_default=True,
    help="journal: with fields, for systemd; json: a JSON object a line; auto: journal or plain.",
)
def cli(verbose: int, log_format: log.Form) -> None:
    """Video inference on small boards, with events over MQTT that are never silently lost."""
    log.setup(verbose, log_format)


def main() -> NoReturn:
    """Run `edge-agent`."""
    run(cli, "edge-agent")
