"""`edge-calibrate`: the command line. Each command is a few lines that call the module which does the work."""

from __future__ import annotations

from typing import NoReturn, get_args

import click

from agent import __version__, log
from agent.cli.shell import CONTEXT, lazy_group, run

PROGRAM = "edge-calibrate"
COMMANDS = {
    "clips": "calibration.cli.clips:clips",
    "build": "calibration.cli.build:build",
    "verify": "calibration.cli.verify:verify",
    "compare": "calibration.cli.compare:compare",
    "robustness": "calibration.cli.robustness:robustness",
    "keygen": "calibration.cli.sign:keygen",
    "sign": "calibration.cli.sign:sign",
}
"""Where each command is; imported when it is asked for, so that none pays for the others."""


@click.group(cls=lazy_group(COMMANDS), context_settings=CONTEXT)
@click.version_option(__version__, "-V", "--version", prog_name=PROGRAM)
@click.option("-v", "--verbose", count=True, help="Say more; -vv for everything.")
@click.option(
    "--log-format",
    type=click.Choice(get_args(log.Form)),
    default="auto",
    show_default=True,
    help="json: a JSON object a line; auto: plain.",
)
def cli(verbose: int, log_format: log.Form) -> None:
    """Turn an FP32 model and your own clips into an INT8 bundle, measured against FP32 on clips it never saw."""
    log.setup(verbose, log_format, program=PROGRAM)


def main() -> NoReturn:
    """Run `edge-calibrate`."""
    run(cli, PROGRAM, extra="calibration")
