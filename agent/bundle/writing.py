"""A bundle written: the directory appears whole or not at all."""

from __future__ import annotations

import dataclasses
import glob
import secrets
import shutil
from typing import TYPE_CHECKING

from agent.bundle import MANIFEST, load_bundle
from agent.bundle.manifest import dump_manifest
from agent.errors import CannotCreate
from agent.wholefile import sync

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agent.bundle import Bundle
    from agent.bundle.manifest import Manifest


def write_bundle(out_dir: Path, manifest: Manifest, files: Mapping[str, Path | bytes]) -> Bundle:
    """Make the bundle `out_dir` of `manifest` and `files`: each name in it, and the file or the bytes it gets.

    It is loaded, and so checked, before it takes its place. Raises CannotCreate, also for an `out_dir` in use,
    and what `load_bundle` does.
    """
    check_free(out_dir)
    for left in out_dir.parent.glob(f".{glob.escape(out_dir.name)}.????????.part"):  # of one that was killed
        shutil.rmtree(left, ignore_errors=True)
    part = out_dir.parent / f".{out_dir.name}.{secrets.token_hex(4)}.part"
    try:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir()
        for name, content in files.items():
            if isinstance(content, bytes):
                (part / name).write_bytes(content)
            else:
                shutil.copyfile(content, part / name)
        (part / MANIFEST).write_bytes(dump_manifest(manifest))
        bundle = load_bundle(part)
        bundle.golden()
        for written in (*part.iterdir(), part):
            sync(written)
        part.replace(out_dir)
        sync(out_dir.parent)
    except OSError as error:
        fix = "choose a directory that can be written, on a disk with room"
        raise CannotCreate(f"can't write bundle {out_dir}", seen=error.strerror or error, fix=fix) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return dataclasses.replace(bundle, path=out_dir)


def check_free(out_dir: Path) -> None:
    """Raise CannotCreate unless `out_dir` is an empty directory, or nothing yet, and has a name to give."""
    if out_dir.name in {"", ".."}:
        raise CannotCreate("a bundle can't take the place of", seen=out_dir, fix="name a new directory")
    if out_dir.is_symlink() or (out_dir.exists() and not out_dir.is_dir()):
        raise CannotCreate("the bundle's place is taken", seen=out_dir, fix="give a new directory")
    try:
        used = out_dir.exists() and any(out_dir.iterdir())
    except OSError as error:
        raise CannotCreate(
            f"can't look into {out_dir}", seen=error.strerror, fix="give a new directory"
        ) from None
    if used:
        raise CannotCreate(
            "bundle directory is not empty", seen=out_dir, fix="give a new directory or empty it"
        )
