"""`edge-agent check`: try out everything the agent needs, and say what to mend."""

from __future__ import annotations

import logging
import textwrap
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import click

from agent import log
from agent.cli.common import (
    DEFAULT_CONFIG,
    FILE,
    default_device,
    default_state_dir,
    make_console,
    reader_may_leave,
)
from agent.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from agent.check import Finding
    from agent.check.target import Target

_STYLES = {"ok": "green", "warning": "yellow", "fault": "bold red", "skipped": "dim"}
_STATE_WIDTH, _WHAT_WIDTH, _NARROWEST = 9, 18, 30
_WITH_SOURCE = ("model", "broker", "camera", "sample", "device", "topic_root", "state_dir", "threads")
"""The options that stand for a configuration file."""


@click.command()
@click.option(
    "--config",
    type=FILE,
    envvar="EDGE_AGENT_CONFIG",
    metavar="FILE",
    help="Default: /etc/edge-agent/config.toml.",
)
@click.option("--source", metavar="URL", help="Check this one camera, with the options below, and no file.")
@click.option(
    "--model", type=FILE, metavar="BUNDLE", help="Model bundle; default: the starter (80 labels of COCO)."
)
@click.option("--broker", metavar="URL", help="mqtt://[user:password@]host[:port], mqtts:// for TLS.")
@click.option("--camera", default="camera", show_default=True, help="Name of the camera.")
@click.option("--sample", metavar="MODE", default="interval:1", show_default=True, help="As for `run`.")
@click.option("--device", help="Name of this device in topics; default: the host name.")
@click.option("--topic-root", default="edge", show_default=True)
@click.option("--state", "state_dir", type=FILE, metavar="DIR", help="Where the outbox lives, as for `run`.")
@click.option("--threads", type=click.IntRange(1, 64), help="Threads of the engine; default: as `run` has.")
@click.option(
    "--save", type=FILE, metavar="DIR", help="Leave a frame of each camera with zones and detections here."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the table.")
@click.option("-v", "--verbose", count=True, help="Say more; -vv for everything.")
@click.pass_context
@reader_may_leave()
def check(context: click.Context, /, **given: Any) -> int:
    """Check config, cameras, models, broker, disk, clock and permissions; each fault comes with its fix.

    Nothing of a running agent is disturbed. Exit codes: 0 no fault (there may be warnings); 1 a fault; 2 usage;
    74 the reader of its output has left.
    """
    if given["verbose"]:
        log.louder(given["verbose"])
    else:
        logging.getLogger("agent").setLevel(logging.CRITICAL)  # what it would warn of is in the rows
    findings: list[Finding] = []
    show = (lambda _: None) if given["as_json"] else _table()
    for finding in _findings(context, given):
        findings.append(finding)
        show(finding)
    return _end(findings, as_json=given["as_json"])


def _findings(context: click.Context, given: dict[str, Any]) -> Iterator[Finding]:
    from agent.check.everything import Examination, read_config

    if given["source"] is not None:
        if context.get_parameter_source("config") is click.core.ParameterSource.COMMANDLINE:
            raise UsageError("--config and --source together", fix="give one of them")
        target: Target | None = _one_camera(given)
    else:
        for option in _WITH_SOURCE:
            if context.get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE:
                name = "state" if option == "state_dir" else option.replace("_", "-")
                raise UsageError(f"--{name} without --source", fix="set it in the configuration file")
        finding, target = read_config(given["config"] or DEFAULT_CONFIG, **_defaults(given))
        yield finding
    if target is not None:
        yield from Examination(target, save=given["save"]).run()


def _one_camera(given: dict[str, Any]) -> Target:
    """Return the target of the command line alone. Raises UsageError, BadConfig, InputMissing."""
    from agent.check.target import CameraTarget, Target
    from agent.cli.run import parse_sampling
    from agent.mqtt.options import parse_url
    from agent.starter import starter_bundle
    from agent.topics import Topics, check_name

    check_name("--camera", given["camera"])
    camera = CameraTarget(
        name=given["camera"],
        url=given["source"],
        model=given["model"] or starter_bundle(),
        sampling=parse_sampling(given["sample"]),
    )
    defaults = _defaults(given)
    defaults["state_dir"] = defaults["state_dir"]()
    Topics.of(defaults["device"], root=given["topic_root"])
    return Target(
        cameras=(camera,),
        topic_root=given["topic_root"],
        mqtt=parse_url(given["broker"]) if given["broker"] is not None else None,
        **defaults,
    )


def _defaults(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "device": default_device() if given["device"] is None else given["device"],
        "state_dir": lambda: given["state_dir"] or default_state_dir(),
        "threads": given["threads"],
    }


def _table() -> Any:
    """Return what prints a row, and what to do below it, as soon as it is known."""
    console = make_console()
    return lambda finding: _print(console, finding)


def _print(console: Console, finding: Finding) -> None:
    """Print the row in three columns, the fix below what was seen."""
    from rich.text import Text

    indent = _STATE_WIDTH + _WHAT_WIDTH
    width = max(console.width - indent, _NARROWEST)
    what = textwrap.wrap(finding.what, _WHAT_WIDTH - 2)
    seen = textwrap.wrap(finding.seen, width, break_on_hyphens=False)
    fix = textwrap.wrap(f"fix: {finding.fix}", width, break_on_hyphens=False) if finding.fix else []
    rows = [(line, "") for line in seen] + [(line, "bold") for line in fix]
    for n, (head, row) in enumerate(zip_longest(what, rows)):
        line, style = row or ("", "")
        state = finding.state if not n else ""
        text = Text.assemble(
            (f"{state:{_STATE_WIDTH}}", _STYLES[finding.state]), f"{head or '':{_WHAT_WIDTH}}", (line, style)
        )
        text.rstrip()
        console.print(text, soft_wrap=True)


def _end(findings: list[Finding], *, as_json: bool) -> int:
    import msgspec

    from agent.check.finding import Report

    report = Report.of(findings)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2))
    else:
        counts = {state: sum(f.state == state for f in findings) for state in ("fault", "warning")}
        click.echo(", ".join(f"{n} {state}{'' if n == 1 else 's'}" for state, n in counts.items()))
    return 0 if report.ok else 1
