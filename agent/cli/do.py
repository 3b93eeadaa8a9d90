"""`edge-agent do`: any operation of the running agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.asking import arguments, done_by, of_agent, wanted_state_dir

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("operation")
@click.argument("args", nargs=-1, metavar="[KEY=VALUE]...")
@of_agent
def do(operation: str, args: tuple[str, ...], config: Path | None, state_dir: Path | None) -> None:
    r"""Have the running agent do OPERATION, and print what came of it as JSON.

    That is what it can be told over MQTT too: status, reload, camera.enable, camera.disable, sampling.set,
    model.install, model.rollback. For example:

    \b
        edge-agent do sampling.set camera=yard mode=uniform hz=2
        edge-agent do sampling.set camera=yard        (back to what the configuration says)

    Exit codes: 0 done; 2 usage; 69 no agent runs; 77 its socket is not for this user; else that of the fault.
    """
    import msgspec

    done = done_by(state_dir or wanted_state_dir(config), operation, arguments(args))
    click.echo(msgspec.json.format(msgspec.json.encode(done), indent=2).decode())
