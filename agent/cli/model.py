"""`edge-agent model`: model bundles, and the store of those that this device runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from agent.cli.common import FILE, check_owner, make_console, reader_may_leave, state_dir_of
from agent.cli.modelinstall import install_and_tell, told, unused_by

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Config, ModelsConfig
    from agent.modelstore import ModelStore
    from agent.modelstore.trial import Limits

_CONFIG = click.option(
    "--config", type=FILE, envvar="EDGE_AGENT_CONFIG", metavar="FILE", help="Those of the agent of this file."
)
_STATE = click.option(
    "--state", "state_dir", type=FILE, metavar="DIR", help="Those of the agent with this state directory."
)
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
_KEYS = click.option(
    "--trusted-key",
    "keys",
    multiple=True,
    metavar="KEY",
    help="A public key that is trusted beside those of --config: a file, or the key itself.",
)
_MAX_MS = click.option(
    "--max-ms",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MS",
    help="What an inference may take at p95; default: four times what it takes now, 50 at least.",
)

_SOURCE_CHARS = 4096


@click.group()
def model() -> None:
    """Model bundles, and the store of those that this device runs."""


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


@model.command("list")
@_CONFIG
@_STATE
@_AS_JSON
@reader_may_leave()
def list_(config: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """List the models of this device: what runs, what ran before, what failed and why."""
    from agent.modelstore.listing import look, print_listing

    listing = look(_store(state_dir, config), unused_by(_load(config)))
    if as_json:
        _print_json(listing)
    else:
        print_listing(listing, make_console())


@model.command()
@click.argument("source", metavar="SOURCE")
@click.option("--sha256", metavar="HEX", help="Of the .zip; needed for a URL.")
@click.option("--model-version", type=int, metavar="N", help="The version that the model must have.")
@click.option("--again", is_flag=True, help="Also when it failed here before.")
@_KEYS
@_MAX_MS
@_CONFIG
@_STATE
@click.option(
    "--quota-mbytes", type=click.IntRange(0), metavar="MB", help="Keep so many; default: that of --config."
)
@click.option("--json", "as_json", is_flag=True, help="Print how it goes, one JSON document a line.")
@reader_may_leave()
def install(
    source: str,
    sha256: str | None,
    model_version: int | None,
    again: bool,
    keys: tuple[str, ...],
    max_ms: float | None,
    quota_mbytes: int | None,
    config: Path | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Install the model bundle SOURCE: a directory, a .zip of one, or the http(s) URL of a zip.

    With - SOURCE is read from standard input, which keeps the login in a URL out of the list of processes.

    It is checked, tried in a process of its own, and takes over from the model that runs, without a restart. Until
    it has worked for a while it is pending: a fault brings back the one before. A URL needs a signature by a
    trusted key.

    Exit codes: 0 installed; 65 it is not trusted, older, or fails; 66 it is not there; 69 its server is away;
    73 no room; 75 another one is being installed; 77 the state directory is of another user.
    """
    from agent.bundle.trust import read_trust
    from agent.modelstore.install import Options

    if source == "-":
        source = sys.stdin.readline(_SOURCE_CHARS).strip()
    loaded = _load(config)
    store = _store(state_dir, config, writes=True)
    models = _models_of(loaded, keys)
    options = Options(
        trust=read_trust(models),
        sha256=sha256,
        version=model_version,
        again=again,
        threads=loaded.limits.threads if loaded else None,
        limits=_limits(max_ms),
        quota_bytes=(models.quota_mbytes if quota_mbytes is None else quota_mbytes) << 20,
    )
    install_and_tell(store, source, options, as_json=as_json, unused=unused_by(loaded))


@model.command()
@click.option("--from", "of", metavar="SHA", help="Only if this is the model that runs now.")
@_CONFIG
@_STATE
@_AS_JSON
@reader_may_leave()
def rollback(of: str | None, config: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Go back to the model that ran before, and without one to that of the factory.

    Exit codes: 0 done, or nothing to do with --from; 2 the factory's runs already; 77 as for install.
    """
    from agent.modelstore.telling import tell_agent

    store = _store(state_dir, config, writes=True)
    if changed := of is None or store.read().current == of:
        store.rollback("by hand")
    note = tell_agent(store.folder.parent) if changed else "another model runs"
    now = store.read().current
    if as_json:
        _print_json({"model": now, "changed": changed, "note": note})
    else:
        click.echo(f"{'back to' if changed else 'still'} {now or 'the factory model'}; {note}")


@model.command()
@click.argument("bundle", type=FILE)
@_KEYS
@_MAX_MS
@_CONFIG
@_STATE
@_AS_JSON
@reader_may_leave()
def trial(
    bundle: Path,
    keys: tuple[str, ...],
    max_ms: float | None,
    config: Path | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Try a bundle directory as `install` does, and install nothing.

    Exit codes: 0 it may run; 65 it may not.
    """
    from agent.bundle import load_bundle
    from agent.bundle.trust import read_trust
    from agent.errors import BadData
    from agent.modelstore.install import Options, try_bundle
    from agent.modelstore.versions import identify

    loaded = _load(config)
    trust = read_trust(_models_of(loaded, keys))
    checked = load_bundle(bundle, trust)
    threads = loaded.limits.threads if loaded else None
    options = Options(trust=trust, threads=threads, limits=_limits(max_ms))
    result = try_bundle(bundle, identify(checked).sha, _store(state_dir, config), options)
    if as_json:
        _print_json(result)
    elif result.passed:
        click.echo(f"{bundle}: {told(result)}")
    if not result.passed:
        raise BadData(str(bundle), seen=result.why)


@model.command()
@click.option("--max-mbytes", type=click.IntRange(0), metavar="MB", help="Leave so many; default: the quota.")
@_CONFIG
@_STATE
@_AS_JSON
@reader_may_leave()
def gc(max_mbytes: int | None, config: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Remove what failed, the oldest models beyond the quota, and what was begun and never ended.

    What runs, and what a rollback would give, stays.
    """
    from agent.modelstore.collecting import alone, clear_leftovers, collect
    from agent.modelstore.store import writing

    store = _store(state_dir, config, writes=True)
    quota = _models_of(_load(config), ()).quota_mbytes if max_mbytes is None else max_mbytes
    with writing(store.folder), alone(store.folder):
        left, models = clear_leftovers(store), collect(store, quota << 20)
    if as_json:
        freed_bytes = left.freed_bytes + models.freed_bytes
        _print_json({"models": models.models, "leftovers": left.leftovers, "freed_bytes": freed_bytes})
    else:
        mb = (left.freed_bytes + models.freed_bytes) / 1e6
        click.echo(f"{len(models.models)} models and {len(left.leftovers)} leftovers removed, {mb:.1f} MB")


def _load(config: Path | None) -> Config | None:
    from agent.config.load import load_config

    return load_config(config) if config else None


def _models_of(config: Config | None, keys: tuple[str, ...]) -> ModelsConfig:
    import msgspec

    from agent.config import ModelsConfig

    models = config.models if config else ModelsConfig()
    return msgspec.structs.replace(models, trusted_keys=(*models.trusted_keys, *keys))


def _limits(max_ms: float | None) -> Limits:
    from agent.modelstore.trial import Limits

    return Limits(max_ms=max_ms)


def _store(state_dir: Path | None, config: Path | None, *, writes: bool = False) -> ModelStore:
    from agent.modelstore import FOLDER, ModelStore

    place = state_dir or state_dir_of(config)
    if writes:
        check_owner(place)
    return ModelStore(place / FOLDER)


def _print_json(document: object) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
