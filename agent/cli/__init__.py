"""`edge-agent`: the command line. Each command is a few lines that call the module which does the work."""

from __future__ import annotations

from typing import NoReturn

from agent.cli.shell import command_line, run

PROGRAM = "edge-agent"
COMMANDS = {
    "run": "agent.cli.run:run",
    "demo": "agent.cli.demo:demo",
    "config": "agent.cli.config:config",
    "model": "agent.cli.model:model",
    "probe": "agent.cli.probe:probe",
    "cameras": "agent.cli.cameras:cameras",
    "clips": "agent.cli.clips:clips",
    "check": "agent.cli.check:check",
    "engine": "agent.cli.engine:engine",
    "status": "agent.cli.status:status",
    "camera": "agent.cli.camera:camera",
    "do": "agent.cli.do:do",
    "outbox": "agent.cli.outbox:outbox",
    "events": "agent.cli.events:events",
    "command": "agent.cli.command:command",
    "system": "agent.cli.system:system",
    "bench": "agent.cli.bench:bench",
    "tune": "agent.cli.tune:tune",
    "fleet": "agent.cli.fleet:fleet",
}
"""Where each command is; imported when it is asked for, so that none pays for the others."""
cli = command_line(
    PROGRAM,
    COMMANDS,
    about="Video inference on small boards, with events over MQTT that are never silently lost.",
    formats="journal: with fields, for systemd; json: a JSON object a line; auto: journal or plain.",
)


def main() -> NoReturn:
    """Run `edge-agent`."""
    run(cli, PROGRAM)
