"""What is in the store, for `edge-agent model list`: as a document, and as a table of 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from rich.table import Table
from rich.text import Text

from agent.bundle import MANIFEST, parse_manifest
from agent.bundle.files import read_file
from agent.starter import starter_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from agent.modelstore.store import ModelStore

Standing = Literal["current", "pending", "previous", "kept", "unfit", "quarantined", "factory"]
_SHORT = 12


class Listed(msgspec.Struct, frozen=True):
    """One model. `sha` is None for the factory's; `why` tells of one that is unfit for the runtime or in quarantine.

    `key` names who signed it ("": nobody), `time` is when it came, UTC, RFC 3339.
    """

    sha: str | None
    standing: Standing
    name: str = ""
    version: int | None = None
    key: str = ""
    source: str = ""
    size_bytes: int = 0
    time: str = ""
    why: str = ""


class Listing(msgspec.Struct, frozen=True):
    """All models. `current`, `previous` and `pending` are shas; None: the factory's, or none pending.

    `unused` is why cameras run other models than these, "" where they do not.
    """

    current: str | None
    previous: str | None
    pending: str | None
    attempts: int
    quarantine: dict[str, str]
    unfit: dict[str, str]
    ratchet: dict[str, dict[str, int]]
    models: tuple[Listed, ...]
    unused: str = ""


def look(store: ModelStore, unused: str = "") -> Listing:
    """Return what is in `store`. Raises NotPermitted, InputMissing."""
    state = store.read()
    return Listing(
        current=state.current,
        previous=state.previous,
        pending=state.current if state.pending else None,
        attempts=state.attempts,
        quarantine=state.quarantine,
        unfit=state.unfit,
        ratchet=state.ratchet,
        models=tuple(_models(store)),
        unused=unused,
    )


def _models(store: ModelStore) -> Iterator[Listed]:
    state = store.read()
    factory = parse_manifest(read_file(starter_bundle(), MANIFEST))
    yield Listed(None, "factory", factory.name, factory.version)
    standings: dict[str | None, Standing] = dict.fromkeys(sorted(store.versions.there()), "kept")
    standings |= dict.fromkeys(state.unfit, "unfit")
    standings |= dict.fromkeys(state.quarantine, "quarantined")
    standings |= {state.previous: "previous", state.current: "pending" if state.pending else "current"}
    for sha, standing in standings.items():
        if sha is not None:
            why = state.why(sha)
            if (record := store.versions.record(sha)) is None:
                yield Listed(sha, standing, why=why)
                continue
            model = record.model
            name, version, key = model.name, model.version, model.key
            size_bytes, source, time = record.size_bytes, record.source, record.time
            yield Listed(sha, standing, name, version, key, source, size_bytes, time, why)


def print_listing(listing: Listing, console: Console) -> None:
    """Print a table of the models, and why those in quarantine are there."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in ("model", "version", "sha256", "state", "MB", "signed by"):
        right = head in ("version", "MB")
        table.add_column(head, justify="right" if right else "left", overflow="fold")
    for model in listing.models:
        runs = model.sha == listing.current
        table.add_row(*map(Text, _row(model)), style="bold" if runs else None)
    console.print(table)
    if listing.pending is not None:
        console.print(f"pending: loaded {listing.attempts} times, not committed yet", markup=False)
    for sha, why in listing.unfit.items():
        console.print(f"unfit {sha[:_SHORT]}: {why}", markup=False)
    for sha, why in listing.quarantine.items():
        console.print(f"quarantined {sha[:_SHORT]}: {why}", markup=False)
    if listing.unused:
        console.print(f"not in use: {listing.unused}", markup=False)


def _row(model: Listed) -> tuple[str, ...]:
    size = f"{model.size_bytes / 1e6:.1f}" if model.size_bytes else ""
    version = "" if model.version is None else str(model.version)
    return (model.name, version, (model.sha or "")[:_SHORT], model.standing, size, model.key)
