"""`edge-agent cameras`: what is attached, and the line for the configuration."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from agent.capture.attached import Attached
    from agent.capture.videodev import Mode

NONE_FOUND = """\
No camera found.
  USB: plug it in; `lsusb` and the end of `sudo dmesg` tell whether it is seen.
  Raspberry Pi: seat the ribbon cable (power off), try
    `rpicam-hello --list-cameras`; the agent needs python3-picamera2 from apt
    and a virtual environment made with --system-site-packages.
  Jetson: set it up with `sudo /opt/nvidia/jetson-io/jetson-io.py`; then csi:0.
  Network cameras are not searched for: source = "rtsp://ADDRESS/PATH\""""
WIDTH = 80
SHOWN_MODES = 8


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--root", type=click.Path(path_type=Path), default=Path("/"), hidden=True)
def cameras(as_json: bool, root: Path) -> None:
    """List the cameras that are attached, each with its `source` for the configuration."""
    from agent.capture.attached import find

    found = find(root)
    if as_json:
        click.echo(json.dumps({"cameras": [asdict(camera) for camera in found]}, indent=2))
    else:
        click.echo("\n\n".join(map(describe, found)) or NONE_FOUND)


def describe(camera: Attached) -> str:
    """Return the lines about one camera; the last one can be pasted into the configuration."""
    formats = dict.fromkeys(mode.fourcc for mode in camera.modes)
    sizes = (_wrapped(f"{f}: {_sizes([mode for mode in camera.modes if mode.fourcc == f])}") for f in formats)
    lines = [f"{camera.name} ({camera.kind}, {camera.device})", *sizes]
    problem = _wrapped(f"can't be used: {camera.problem}")
    lines.append(f'  source = "{camera.source}"' if camera.source else problem)
    return "\n".join(lines)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False)


def _sizes(modes: list[Mode]) -> str:
    largest = sorted(modes, key=lambda mode: mode.size[0] * mode.size[1], reverse=True)
    shown = [
        f"{mode.size[0]}x{mode.size[1]}" + (f" {mode.rates_hz[0]:g} fps" if mode.rates_hz else "")
        for mode in largest[:SHOWN_MODES]
    ]
    return ", ".join(shown) + (
        f" and {len(largest) - SHOWN_MODES} more" if len(largest) > SHOWN_MODES else ""
    )
