"""What a device tells of its default model: which one runs, where it came from, and how it stands."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from agent import wire
from agent.bundle import MANIFEST
from agent.defaultmodel import Running

if TYPE_CHECKING:
    from pathlib import Path

    from agent.bundle import Bundle
    from agent.defaultmodel import DefaultModel
    from agent.engines import Engines


def model_health(
    engines: Engines, named: Path | None, default: DefaultModel | None
) -> wire.ModelHealth | None:
    """Return what runs where a camera names no model, and how it stands; None where no camera runs it.

    `named` is the bundle that the configuration names for those.
    """
    if (room := engines.at(named)) is None:
        return None
    model, running = room.model, default.running if default else Running()
    source: Literal["factory", "store", "config"] = "store" if running.sha else "factory"
    return wire.ModelHealth(
        name=model.name,
        version=model.version,
        sha256=model.sha256,
        bundle_sha=_sha_of(room.bundle),
        source="config" if named else source,
        state="config" if named else running.state,
    )


@lru_cache(maxsize=4)
def _sha_of(bundle: Bundle) -> str:
    """Return the sha256 of the manifest of a checked bundle, "" where it is gone."""
    try:
        return hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        return ""
