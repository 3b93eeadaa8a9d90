"""`edge-agent model`: model bundles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.common import FILE

if TYPE_CHECKING:
    from pathlib import Path


@click.group()
def model() -> None:
    """Model bundles."""


@model.command("add")
@click.option(
    "--manifest", type=FILE, required=True, metavar="M.toml", help="For example one of models/known/."
)
@click.option("--artifact", type=FILE, required=True, metavar="FILE", help="The model file.")
@click.option("--out", type=FILE, required=True, metavar="BUNDLE", help="Directory to make.")
def model_add(manifest: Path, artifact: Path, out: Path) -> None:
    """Make a bundle from a manifest and a model file, and try it."""
    from agent.modeladd import add_and_try

    click.echo(add_and_try(manifest, artifact, out))
