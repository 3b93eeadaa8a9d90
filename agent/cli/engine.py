"""`edge-agent engine`: the TensorRT engines of this device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agent.cli.common import (
    FILE,
    bundle_of,
    check_owner,
    make_console,
    reader_may_leave,
    state_dir_of,
    trust_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from agent.enginestore.store import Entry

_CONFIG = click.option(
    "--config", type=FILE, envvar="EDGE_AGENT_CONFIG", metavar="FILE", help="Those of the agent of this file."
)
_STATE = click.option(
    "--state", "state_dir", type=FILE, metavar="DIR", help="Those of the agent with this state directory."
)
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group()
def engine() -> None:
    """TensorRT engines, built on this device from the ONNX files of bundles."""


@engine.command()
@click.option(
    "--model",
    type=FILE,
    metavar="BUNDLE",
    help="Build for this bundle; default: that of --config, else the starter.",
)
@click.option(
    "--precision",
    type=click.Choice(["int8", "fp16"]),
    help="Build this one alone; default: int8, and fp16 where that fails.",
)
@_CONFIG
@_STATE
@_AS_JSON
@reader_may_leave()
def build(
    model: Path | None, precision: str | None, config: Path | None, state_dir: Path | None, as_json: bool
) -> None:
    """Build the engine that `run` would take, and try it, so that the first start need not.

    A build that failed before is tried again. For the service, do it as its user.

    With --config, a bundle that its [models] does not trust is not built.

    Exit codes: 0 it is there; 65 TensorRT refuses the model, the engine is not what the model should be, or the
    bundle is not signed as it must be;
    69 TensorRT can't run here; 73 no room, or can't write; 75 not enough memory; 77 the state directory is of
    another user.
    """
    from rich.text import Text

    from agent.bundle import load_bundle
    from agent.enginebuild import build_for

    place = state_dir or state_dir_of(config)
    check_owner(place)
    bundle = load_bundle(bundle_of(model, config), trust_of(config))
    with make_console(stderr=True).status("looking at this device") as shown:
        record = build_for(
            bundle,
            place,
            precision=precision,
            tell=lambda text: shown.update(Text(text)),
        )
    if as_json:
        _print_json(record)
    else:
        click.echo(
            f"{record.model}: {record.artifact} ({record.precision}) for TensorRT {record.key.target.tensorrt},"
            f" {record.plan_bytes / 1e6:.1f} MB, built {record.made} in {record.took_s:g} s"
        )


@engine.command("list")
@_CONFIG
@_STATE
@_AS_JSON
@reader_may_leave()
def list_(config: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """List the engines of this device, the one used last first."""
    from rich.table import Table

    from agent.enginestore.store import FOLDER, EngineStore

    entries = EngineStore((state_dir or state_dir_of(config)) / FOLDER).entries()
    if as_json:
        _print_json([_document(entry) for entry in entries])
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in ("model", "artifact", "TensorRT", "SM", "MB", "made"):
        table.add_column(head, overflow="fold", justify="right" if head == "MB" else "left")
    for entry in entries:
        table.add_row(*_row(entry))
    make_console().print(table if entries else "no engine was built here")


@engine.command()
@click.option(
    "--max-mbytes",
    type=click.IntRange(0),
    metavar="MB",
    help="Leave so many; default: 1024. Engines that a running agent uses stay.",
)
@_CONFIG
@_STATE
@_AS_JSON
@reader_may_leave()
def gc(max_mbytes: int | None, config: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Remove engines that can't run here any more, and those used longest ago where there are too many."""
    from agent.choosing import Chooser
    from agent.enginestore.store import QUOTA_BYTES

    engines = Chooser.here(state_dir or state_dir_of(config)).engines
    most_bytes = QUOTA_BYTES if max_mbytes is None else max_mbytes << 20
    removed = engines.store.collect(engines.target, most_bytes=most_bytes)
    if as_json:
        _print_json([_document(entry) for entry in removed])
    else:
        freed_mb = sum(entry.size_bytes for entry in removed) / 1e6
        click.echo(
            f"{len(removed)} {'engine' if len(removed) == 1 else 'engines'} removed, {freed_mb:.1f} MB"
        )


def _document(entry: Entry) -> dict[str, Any]:
    return {"folder": str(entry.folder), "bytes": entry.size_bytes, "engine": entry.record}


def _row(entry: Entry) -> tuple[str, ...]:
    size = f"{entry.size_bytes / 1e6:.1f}"
    if entry.record is None:
        return (entry.folder.name, "can't be read", "", "", size, "")
    record, target = entry.record, entry.record.key.target
    return (record.model, record.artifact, target.tensorrt, target.sm, size, record.made)


def _print_json(document: object) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
