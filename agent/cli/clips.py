"""`edge-agent clips`: short clips of the cameras, for the calibration of models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from agent.cli.common import DEFAULT_CONFIG, FILE, make_console, reader_may_leave
from agent.cli.units import seconds, size_bytes
from agent.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.recording.recording import Camera, Recorded


@click.group()
def clips() -> None:
    """Short clips of the cameras, to calibrate models on."""


@clips.command("record")
@click.option(
    "--out", type=FILE, required=True, metavar="DIR", help="Where they go: a folder for each camera."
)
@click.option(
    "--config",
    type=FILE,
    metavar="FILE",
    envvar="EDGE_AGENT_CONFIG",
    help=f"Record all cameras of this file; default: {DEFAULT_CONFIG}.",
)
@click.option(
    "--source", metavar="URL", help="Record this alone: rtsp://, http://, v4l2:/dev/video0, a file ..."
)
@click.option("--camera", default="camera", show_default=True, help="Name of the camera of --source.")
@click.option(
    "--for",
    "for_s",
    metavar="TIME",
    callback=seconds,
    default="24h",
    show_default=True,
    help="How long: 30m, 24h, 7d.",
)
@click.option(
    "--quota",
    "quota_bytes",
    metavar="SIZE",
    callback=size_bytes,
    default="2GB",
    show_default=True,
    help="Most that all clips together take; beyond it clips that are much like others go.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@reader_may_leave()
def clips_record(
    out: Path,
    config: Path | None,
    source: str | None,
    camera: str,
    for_s: float,
    quota_bytes: int,
    as_json: bool,
) -> None:
    """Take clips of 10 s: spread over the hours, and when light, scene or something in it changes.

    Compressed streams are kept as they come, other cameras as Motion JPEG. Nothing leaves the device: copy DIR
    to a workstation and give it to `edge-calibrate clips`. Cameras of a configuration that are away are waited
    for. SIGTERM and SIGINT end it, the clip that is being taken is kept.

    Exit codes: 0 done; 2 usage; 65, 66, 69, 77 bad or missing --source; 73 can't write DIR; 74 disk full or
    faulty; 78 bad configuration.
    """
    import json
    from dataclasses import asdict

    from agent.recording.recording import record

    chosen = click.get_current_context().get_parameter_source("config")
    if source is not None and chosen is ParameterSource.COMMANDLINE:
        raise UsageError(
            "--source and --config", seen="both", fix="give one: --config records all its cameras"
        )
    cameras = _of_config(config) if source is None else [_of_source(camera, source)]
    found = record(cameras, out, for_s=for_s, quota_bytes=quota_bytes, patient=source is None)
    if as_json:
        click.echo(json.dumps({"cameras": [asdict(one) for one in found]}, indent=2))
    else:
        _print(found)


def _of_source(name: str, source: str) -> Camera:
    """Return the camera at `source`. Raises AgentError."""
    from agent.capture import StreamOptions
    from agent.recording.recording import Camera
    from agent.topics import check_name

    check_name("--camera", name)
    return Camera(name, source, StreamOptions())


def _of_config(path: Path | None) -> list[Camera]:
    """Return the enabled cameras of the configuration. Raises AgentError."""
    from agent.capture import StreamOptions
    from agent.config.load import load_config
    from agent.credentials import source_url
    from agent.recording.recording import Camera

    cameras = [
        Camera(
            camera.name,
            source_url(camera),
            StreamOptions(
                rtsp_transport=camera.rtsp_transport,
                open_timeout_s=camera.open_timeout_s,
                stall_timeout_s=camera.stall_timeout_s,
            ),
        )
        for camera in load_config(path or DEFAULT_CONFIG).camera
        if camera.enabled
    ]
    if not cameras:
        raise UsageError(
            "no camera is enabled", seen=path or DEFAULT_CONFIG, fix="enable one, or give --source"
        )
    return cameras


def _print(found: list[Recorded]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("Camera", overflow="fold")
    for title in ("Taken", "Given up", "Kept", "MB", "Dark", "Dim", "Bright"):
        table.add_column(title, justify="right")
    for one in found:
        numbers = (one.taken, one.given_up, one.clips, round(one.size_bytes / 1e6), *one.by_light.values())
        table.add_row(one.camera, *map(str, numbers))
    make_console().print(table)
