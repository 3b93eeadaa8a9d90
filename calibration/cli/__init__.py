"""`edge-calibrate`: the command line. Each command is a few lines that call the module which does the work."""

from __future__ import annotations

from typing import NoReturn

from agent.cli.shell import command_line, run

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
cli = command_line(
    PROGRAM,
    COMMANDS,
    about="Turn an FP32 model and your own clips into an INT8 bundle, measured against FP32 on clips it never saw.",
    formats="json: a JSON object a line; auto: plain.",
)


def main() -> NoReturn:
    """Run `edge-calibrate`."""
    run(cli, PROGRAM, extra="calibration")
