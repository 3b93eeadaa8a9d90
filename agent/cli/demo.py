"""`edge-agent demo`: the main job on a sample clip."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agent.cli.common import FILE


@click.command()
@click.option("--out", type=FILE, default=Path("out/demo"), show_default=True)
def demo(out: Path) -> None:
    """Show the main job on a sample clip of people: no camera, no broker, no configuration."""
    from agent.demo import run_demo

    sys.exit(run_demo(out))
