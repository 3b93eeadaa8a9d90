"""What is removed from the store: models beyond the quota, and what was begun and never ended."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

import msgspec

from agent.errors import TryAgain
from agent.modelstore.store import DOWNLOADS, try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.modelstore.store import ModelStore

QUOTA_BYTES = 2 << 30
LOCK = "install.lock"
"""Held by the one process that installs or collects."""


class Removed(msgspec.Struct, frozen=True):
    """What is gone: models by their sha, leftovers by their names, and how much that was."""

    models: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    freed_bytes: int = 0


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only process that installs into `folder`, or collects there. Raises TryAgain, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("ab") as file:
        if not try_lock(file.fileno()):
            fix = "wait for it, then try again"
            raise TryAgain("another model is being installed", seen=folder, fix=fix)
        yield


def clear_leftovers(store: ModelStore) -> Removed:
    """Remove half-made bundles and cut downloads; only for who is `alone`. Raises OSError."""
    downloads = store.folder / DOWNLOADS
    found = [*store.versions.leftovers(), *(sorted(downloads.iterdir()) if downloads.is_dir() else ())]
    freed_bytes = sum(map(_size_bytes, found))
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return Removed(leftovers=tuple(path.name for path in found), freed_bytes=freed_bytes)


def collect(store: ModelStore, quota_bytes: int) -> Removed:
    """Remove models in quarantine, then the oldest, until all take no more than `quota_bytes`; only for who is `alone`.

    What runs now, and what a rollback would give, always stays. Raises OSError, NotPermitted.
    """
    state, versions = store.read(), store.versions
    sizes = {sha: _size_bytes(versions.path(sha)) for sha in versions.there()}
    removable = sorted(sizes.keys() - state.kept, key=lambda sha: _age(store, sha))
    left_bytes, gone = sum(sizes.values()), []
    for sha in removable:
        if sha in state.quarantine or left_bytes > quota_bytes:
            versions.remove(sha)
            left_bytes -= sizes[sha]
            gone.append(sha)
    for sha in gone:
        if sha not in state.quarantine:
            store.trials.forget(sha)
    return Removed(models=tuple(gone), freed_bytes=sum(sizes[sha] for sha in gone))


def _age(store: ModelStore, sha: str) -> tuple[bool, str]:
    """Return what sorts models: those in quarantine first, then by when they were installed."""
    record = store.versions.record(sha)
    return sha not in store.read().quarantine, record.time if record else ""


def _size_bytes(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else (path,)
    return sum(file.lstat().st_size for file in files)
