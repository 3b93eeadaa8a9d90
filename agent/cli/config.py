"""`edge-agent config`: the configuration file explained and checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.common import DEFAULT_CONFIG, FILE, default_device, default_state_dir
from agent.hardware.files import entries

if TYPE_CHECKING:
    from collections.abc import Callable


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

    Without logins the output is a valid configuration itself. Exit codes: 66 no such file; 77 it may not be
    read; 78 a setting makes no sense.
    """
    from agent.config.describe import effective
    from agent.config.load import load_config

    found = load_config(path)
    defaults: dict[str, Callable[[], object]] = {
        "device": default_device,
        "state_dir": default_state_dir,
        "model": lambda: "the starter (80 labels of COCO)",
    }
    missing = [f"# {key}: {default()}\n" for key, default in defaults.items() if getattr(found, key) is None]
    click.echo("".join(missing) + effective(found, credentials=_credentials()), nl=False)


def _credentials() -> list[str]:
    """Return the names of the credentials that systemd gave this process."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return [path.name for path in entries(Path(folder))] if folder else []
