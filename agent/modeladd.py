"""`edge-agent model add`: a manifest and a model file become a bundle, which is then tried."""

from __future__ import annotations

import os
import secrets
import shutil
from typing import TYPE_CHECKING

import msgspec

from agent.assembly import open_model
from agent.bundle import MANIFEST, load_bundle
from agent.bundlefiles import (
    check_digest,
    check_size,
    digest_of,
    inside,
    read_anchors,
    read_file,
    read_labels,
)
from agent.errors import BadData, CannotCreate, InputMissing
from agent.manifest import dump_manifest, parse_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from agent.bundle import Bundle
    from agent.manifest import Artifact, Manifest


def add_and_try(manifest: Path, artifact: Path, out: Path) -> str:
    """Make the bundle `out`; load and run the model as `run` would; return what to tell the user.

    Raises AgentError; `out` is then removed again.
    """
    add_model(manifest, artifact, out)
    try:
        bundle, engine = open_model(out, threads=1)
    except Exception:
        shutil.rmtree(out)
        raise
    info = engine.info
    engine.close()
    name, nodes = bundle.manifest.name, info.delegated_nodes
    return f"{out}: {name} {info.precision} runs on {info.backend} ({nodes} delegate nodes)"


def add_model(manifest_path: Path, artifact_path: Path, out_dir: Path) -> Bundle:
    """Make the bundle `out_dir` of a manifest, the labels and anchors next to it, and one file of weights.

    The artifact's size and sha256 are computed where the manifest leaves them out, else verified.
    The directory appears whole or not at all. Raises InputMissing, BadData, or CannotCreate (also for an
    `out_dir` in use).
    """
    for what, path in (("manifest", manifest_path), ("model file", artifact_path)):
        if not path.exists():
            raise InputMissing(f"{what} not found", seen=path, fix="check the path")
    source = manifest_path.parent
    draft = parse_manifest(read_file(source, manifest_path.name), where=str(manifest_path))
    read_labels(source, draft)
    read_anchors(source, draft.decoder)
    manifest = _complete(draft, source, artifact_path)
    _check_free(out_dir)
    part = out_dir.parent / f".{out_dir.name}.{secrets.token_hex(4)}.part"
    try:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir()
        for name in filter(None, (manifest.labels, manifest.decoder.anchors)):
            shutil.copyfile(source / name, part / name)
        shutil.copyfile(artifact_path, part / manifest.artifact[0].file)
        (part / MANIFEST).write_bytes(dump_manifest(manifest))
        load_bundle(part)
        for written in (*part.iterdir(), part):
            _sync(written)
        part.replace(out_dir)
        _sync(out_dir.parent)
    except OSError as error:
        fix = "choose a directory that can be written, on a disk with room"
        raise CannotCreate(f"can't write bundle {out_dir}", seen=error.strerror or error, fix=fix) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return load_bundle(out_dir)


def _complete(draft: Manifest, source: Path, artifact_path: Path) -> Manifest:
    """Return `draft` with `artifact_path` as its one artifact, and every size and sha256 filled in."""
    listed = _listed(draft, artifact_path)
    inside(artifact_path.parent, artifact_path.name)
    size, digest = artifact_path.stat().st_size, digest_of(artifact_path)
    check_size(artifact_path, size, listed)
    if listed.sha256:
        check_digest(artifact_path, digest, listed.sha256)
    found = msgspec.structs.replace(listed, bytes=size, sha256=digest)
    anchors = draft.decoder.anchors
    decoder = msgspec.structs.replace(
        draft.decoder, anchors_sha256=digest_of(source / anchors) if anchors else None
    )
    return msgspec.structs.replace(
        draft, labels_sha256=digest_of(source / draft.labels), decoder=decoder, artifact=(found,)
    )


def _listed(manifest: Manifest, artifact_path: Path) -> Artifact:
    """Return the entry of `manifest` that `artifact_path` is for: by name, else by its suffix."""
    named = [artifact for artifact in manifest.artifact if artifact.file == artifact_path.name]
    suffix = artifact_path.suffix.lower().lstrip(".")
    fitting = named or [artifact for artifact in manifest.artifact if artifact.format == suffix]
    if len(fitting) != 1:
        entries = ", ".join(artifact.file for artifact in manifest.artifact)
        fix = f"name the file as one of the manifest's: {entries}"
        raise BadData("model file fits no [[artifact]]", seen=artifact_path.name, fix=fix)
    return fitting[0]


def _check_free(out_dir: Path) -> None:
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


def _sync(path: Path) -> None:
    """Make a file or directory durable, so that the rename never reaches the disk before the data."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
