"""`edge-agent run`: watch cameras and publish their events."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent import log
from agent.cli.common import DEFAULT_CONFIG, FILE, default_device, default_state_dir
from agent.errors import UsageError

if TYPE_CHECKING:
    from agent.config import Detect, Sampling
    from agent.runoptions import RunOptions


@click.command()
@click.option(
    "--config",
    type=FILE,
    metavar="FILE",
    envvar="EDGE_AGENT_CONFIG",
    help=f"Run all cameras of this file; default: {DEFAULT_CONFIG}.",
)
@click.option(
    "--source", metavar="URL", help="Watch this alone: a file, rtsp://, http://, v4l2:/dev/video0 ..."
)
@click.option(
    "--model", type=FILE, metavar="BUNDLE", help="Model bundle; default: the starter (80 labels of COCO)."
)
@click.option("--broker", metavar="URL", help="mqtt://[user:password@]host[:port], mqtts:// for TLS.")
@click.option(
    "--sink", metavar="FILE", help="Write events to a JSONL file instead; '-' (default): standard output."
)
@click.option(
    "--pace",
    type=click.Choice(["realtime", "fastest"]),
    default="realtime",
    show_default=True,
    help="fastest: every frame of a file, as fast as it goes; time is the PTS.",
)
@click.option(
    "--detections", type=FILE, metavar="FILE", help="One JSON line of raw detections an inferred frame."
)
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Lowest score in --detections.",
)
@click.option("--mot", type=FILE, metavar="FILE", help="Tracks in MOTChallenge format.")
@click.option(
    "--camera", default="camera", show_default=True, help="Name of the camera in topics and events."
)
@click.option("--device", help="Name of this device in topics; default: the host name.")
@click.option("--topic-root", default="edge", show_default=True)
@click.option(
    "--state",
    "state_dir",
    type=FILE,
    metavar="DIR",
    help="Where the outbox lives; default: $STATE_DIRECTORY or ~/.local/state/edge-agent.",
)
@click.option(
    "--sample",
    metavar="MODE",
    default="interval:1",
    show_default=True,
    help="uniform:HZ, interval:N (every N-th frame), motion:MIN_HZ-MAX_HZ.",
)
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    metavar="[LABEL=]SCORE",
    help="Score from which an object counts; default: the model's.",
)
@click.option("--label", "labels", multiple=True, help="Report only this label; repeatable.")
@click.option(
    "--zone",
    "zones",
    multiple=True,
    metavar="NAME=X,Y,X,Y,...",
    help="A polygon in fractions 0..1 of the frame; repeatable.",
)
@click.option("--mask", "masks", multiple=True, metavar="X,Y,X,Y,...", help="A polygon where nothing counts.")
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    help="Threads of the engine; default: as `tune` measured, else all cores but one.",
)
@click.option(
    "--drain-s",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    help="At the end, wait this long for the broker to take what is queued.",
)
@click.option(
    "--decode",
    type=click.Choice(["all", "keyframes_when_idle"]),
    default="all",
    show_default=True,
    help="keyframes_when_idle: only key frames while nothing moves.",
)
@click.option("--rtsp-transport", type=click.Choice(["tcp", "udp"]), default="tcp", show_default=True)
@click.option(
    "--stall-timeout-s",
    type=click.FloatRange(0.5),
    default=10.0,
    show_default=True,
    help="Reconnect when no frame came for this long.",
)
@click.option("-v", "--verbose", count=True, help="Say more; -vv for everything.")
def run(**given: Any) -> None:
    """Watch cameras and publish their events, until all have ended or SIGTERM or SIGINT comes.

    With a configuration file a camera that is away is waited for, and SIGHUP reads the file again; a bad new
    file changes nothing. With --source alone a fault of the source is the end.

    Exit codes: 0 done; 2 usage; 65 bad video or model; 66 file missing; 69 camera away; 73 can't write state
    or sink; 74 disk fault; 75 broker away, messages kept for the next start; 77 login refused; 78 bad
    configuration.
    """
    from agent.daemon import run as run_daemon

    if given["verbose"]:
        log.louder(given["verbose"])
    run_daemon(_service(given["config"]) if _from_config(given) else _command(given))


def _from_config(given: dict[str, Any]) -> bool:
    """Tell whether a configuration is to run. Raises UsageError for half of each."""
    from click.core import ParameterSource

    context = click.get_current_context()
    if given["source"] is not None:
        if context.get_parameter_source("config") is ParameterSource.COMMANDLINE:
            raise UsageError("--config and --source together", fix="give one of them")
        return False
    alone = {"config", "verbose"}
    by_default = {ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP}
    more = [
        option.opts[0]
        for option in context.command.params
        if option.name
        and option.name not in alone
        and context.get_parameter_source(option.name) not in by_default
    ]
    if more:
        fix = "give --source too, or put it into the configuration"
        raise UsageError("option of a single source", seen=", ".join(more), fix=fix)
    return True


def _service(path: Path | None) -> RunOptions:
    """Return what the configuration file says, to be read again on SIGHUP. Raises AgentError."""
    from msgspec.structs import replace

    from agent.bundle.trust import read_trust
    from agent.config.load import load_config
    from agent.credentials import mqtt_options
    from agent.runoptions import RunOptions

    config = load_config(path or DEFAULT_CONFIG)
    return RunOptions(
        config=replace(
            config,
            device=config.device or default_device(),
            state_dir=config.state_dir or str(default_state_dir()),
        ),
        trust=read_trust(config.models),
        broker=mqtt_options(config.mqtt) if config.mqtt else None,
        threads=config.limits.threads,
        reload=lambda: _service(path),
    )


def _command(given: dict[str, Any]) -> RunOptions:
    """Return what the options say, of one source. Raises AgentError."""
    from agent.capture import source_scheme
    from agent.config import CameraConfig, Config, LimitsConfig
    from agent.mqtt.options import parse_url
    from agent.runoptions import RunOptions

    if given["broker"] is not None and given["sink"] is not None:
        raise UsageError("--broker and --sink together", fix="give one of them")
    if given["drain_s"] != given["drain_s"]:
        raise UsageError("--drain-s", seen="nan", fix="give seconds, 0 or more")
    _check_files(given)
    source_scheme(given["source"])
    camera = CameraConfig(
        name=given["camera"],
        source=given["source"],
        decode=given["decode"],
        rtsp_transport=given["rtsp_transport"],
        stall_timeout_s=given["stall_timeout_s"],
    )
    config = Config(
        camera=(camera,),
        device=default_device() if given["device"] is None else given["device"],
        topic_root=given["topic_root"],
        state_dir=str(given["state_dir"] or default_state_dir()),
        model=None if given["model"] is None else str(given["model"]),
        sink=given["sink"] or "-",
        sampling=parse_sampling(given["sample"]),
        detect=_detect(given),
        limits=LimitsConfig(drain_s=given["drain_s"]),
    )
    return RunOptions(
        config=config,
        broker=None if given["broker"] is None else parse_url(given["broker"]),
        threads=given["threads"],
        pace=given["pace"],
        detections=given["detections"],
        mot=given["mot"],
        min_score=given["min_score"],
    )


def _check_files(given: dict[str, Any]) -> None:
    """Raise UsageError when one file would be written by two options, or over the source."""
    seen = {Path(given["source"].removeprefix("file://")).resolve(): "--source"}
    for option in ("sink", "detections", "mot"):
        value = given[option]
        if value is None or str(value) in {"-", os.devnull}:
            continue
        path = Path(value).resolve()
        if path in seen:
            raise UsageError(
                f"--{option} is the same file as {seen[path]}", seen=value, fix="give another path"
            )
        seen[path] = f"--{option}"


def parse_sampling(text: str) -> Sampling:
    """Return the sampling of `uniform:HZ`, `interval:N` or `motion:MIN_HZ-MAX_HZ`. Raises UsageError."""
    from agent.config import Sampling

    mode, _, value = text.partition(":")
    try:
        if mode == "uniform":
            return Sampling(mode="uniform", hz=float(value))
        if mode == "interval":
            return Sampling(mode="interval", every_n=int(value))
        if mode == "motion":
            low, _, high = value.partition("-") if value else ("0.5", "", "10")
            return Sampling(mode="motion", min_hz=float(low), max_hz=float(high))
    except ValueError:
        pass
    raise UsageError("--sample", seen=text, fix="use uniform:5, interval:1 or motion:0.5-10")


def _detect(given: dict[str, Any]) -> Detect:
    from agent.config import Detect, Zone

    general, by_label = None, {}
    for text in given["thresholds"]:
        label, _, score = text.rpartition("=")
        if label:
            by_label[label] = _number("--threshold", score, text)
        else:
            general = _number("--threshold", score, text)
    zones = []
    for text in given["zones"]:
        name, _, corners = text.partition("=")
        zones.append(Zone(name, _polygon("--zone", corners, text)))
    masks = tuple(_polygon("--mask", text, text) for text in given["masks"])
    return Detect(
        threshold=general, thresholds=by_label, labels=given["labels"], zones=tuple(zones), masks=masks
    )


def _polygon(option: str, corners: str, seen: str) -> tuple[tuple[float, float], ...]:
    values = [_number(option, value, seen) for value in corners.split(",")]
    if len(values) % 2:
        raise UsageError(option, seen=seen, fix="give x,y pairs")
    return tuple(zip(values[::2], values[1::2], strict=True))


def _number(option: str, value: str, seen: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UsageError(option, seen=seen, fix="numbers are written like 0.5") from None
