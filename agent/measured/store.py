"""The tunings of a device, kept in the state directory: a file for each set of weights."""

from __future__ import annotations

import hashlib
import logging
import os
from typing import TYPE_CHECKING

import msgspec

from agent.bundle.files import read_file
from agent.errors import AgentError, CannotCreate
from agent.measured.record import Tuning
from agent.wholefile import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.bundle.manifest import Artifact

log = logging.getLogger(__name__)

FOLDER = "tuning"
_MOST_BYTES = 1 << 20


def hashes(artifacts: Sequence[Artifact]) -> dict[str, str]:
    """Return the sha256 of each of `artifacts` by its file."""
    return {artifact.file: artifact.sha256 for artifact in artifacts}


def place(state_dir: Path, weights: dict[str, str]) -> Path:
    """Return where the tuning of the files with these `hashes` is kept."""
    listed = msgspec.json.encode(weights, order="deterministic")
    return state_dir / FOLDER / f"{hashlib.sha256(listed).hexdigest()[:16]}.json"


def read_tuning(state_dir: Path, artifacts: Sequence[Artifact]) -> Tuning | None:
    """Return what was measured of a bundle with these `artifacts`, None if nothing was.

    A file that can't be used is told in the log: without it the agent runs all the same.
    """
    weights = hashes(artifacts)
    path = place(state_dir, weights)
    try:
        raw = read_file(path.parent, path.name, most_bytes=_MOST_BYTES) if path.exists() else None
        found = None if raw is None else msgspec.json.decode(raw, type=Tuning)
    except (AgentError, OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        log.warning("%s can't be used: %s; `edge-agent tune` makes it anew", path, error)
        return None
    return found if found is not None and found.artifacts == weights else None


def prepare(state_dir: Path) -> None:
    """Make sure that a tuning can be kept. Raises CannotCreate."""
    folder = state_dir / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "permission denied")
    except OSError as error:
        raise _refused(folder, error) from None


def write_tuning(state_dir: Path, tuning: Tuning) -> Path:
    """Keep `tuning`, whole or not at all; return where. Raises CannotCreate."""
    path = place(state_dir, tuning.artifacts)
    write_whole(path, msgspec.json.format(msgspec.json.encode(tuning), indent=2))
    return path


def _refused(path: Path, error: OSError) -> CannotCreate:
    fix = "give a state directory that this user can write (--state), on a disk with room"
    return CannotCreate(f"can't write {path}", seen=error.strerror or error, fix=fix)
