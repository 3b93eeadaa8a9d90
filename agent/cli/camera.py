"""`edge-agent camera`: cameras of the running agent, switched on and off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.asking import done_by, of_agent, wanted_state_dir

if TYPE_CHECKING:
    from pathlib import Path


@click.group()
def camera() -> None:
    """Switch cameras of the running agent on and off; it stays so over restarts."""


@camera.command()
@click.argument("name")
@of_agent
def enable(name: str, config: Path | None, state_dir: Path | None) -> None:
    """Have the camera NAME watched.

    Exit codes: 0 done; 2 no such camera; 69 no agent runs; 77 its socket is not for this user.
    """
    _switch(name, "enable", state_dir or wanted_state_dir(config))


@camera.command()
@click.argument("name")
@of_agent
def disable(name: str, config: Path | None, state_dir: Path | None) -> None:
    """Leave the camera NAME alone: its open events end, its counts go to 0.

    Exit codes: 0 done; 2 no such camera; 69 no agent runs; 77 its socket is not for this user.
    """
    _switch(name, "disable", state_dir or wanted_state_dir(config))


def _switch(name: str, what: str, wanted: Path | None) -> None:
    done_by(wanted, f"camera.{what}", {"camera": name})
    click.echo(f"camera {name}: {what}d")
