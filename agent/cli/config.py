"""`edge-agent config`: the configuration file explained and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.common import DEFAULT_CONFIG, FILE, default_device, default_state_dir

if TYPE_CHECKING:
    from pathlib import Path


@click.group()
def config() -> None:
    """Explain and check the configuration file."""


@config.command()
def example() -> None:
    """Print a complete example with every key, its default and what it does."""
    from agent.config.describe import example as text

    click.echo(text(), nl=False)


@config.command()
def schema() -> None:
    """Print the JSON Schema, for editors and other programs."""
    import json

    from agent.config.describe import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@config.command()
@click.option(
    "--config",
    "path",
    type=FILE,
    default=DEFAULT_CONFIG,
    envvar="EDGE_AGENT_CONFIG",
    metavar="FILE",
    help=f"Default: {DEFAULT_CONFIG}.",
)
def show(path: Path) -> None:
    """Check the file and print what is in force: every default filled in, no logins.

    The output is a valid configuration itself. Exit codes: 66 no such file; 77 it may not be read; 78 a
    setting makes no sense.
    """
    from agent.config.describe import effective
    from agent.config.load import load_config

    found = load_config(path)
    missing = {"device": default_device(), "state_dir": default_state_dir(), "model": "the starter (person)"}
    for key, default in missing.items():
        if getattr(found, key) is None:
            click.echo(f"# {key}: {default}")
    click.echo(effective(found), nl=False)
