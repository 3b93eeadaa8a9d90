"""`edge-agent model add`: a manifest and a model file become a bundle, which is then tried."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import msgspec

from agent.assembly import open_model
from agent.bundle.files import (
    check_digest,
    check_size,
    digest_of,
    inside,
    read_anchors,
    read_file,
    read_labels,
)
from agent.bundle.manifest import parse_manifest
from agent.bundle.writing import write_bundle
from agent.errors import BadData, InputMissing

if TYPE_CHECKING:
    from pathlib import Path

    from agent.bundle import Bundle
    from agent.bundle.manifest import Artifact, Manifest


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
    """Make the bundle `out_dir` of a manifest, what it names next to it, and one file of weights.

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
    beside = (manifest.labels, manifest.decoder.anchors, manifest.golden)
    files = {name: source / name for name in beside if name is not None}
    return write_bundle(out_dir, manifest, {manifest.artifact[0].file: artifact_path, **files})


def _complete(draft: Manifest, source: Path, artifact_path: Path) -> Manifest:
    """Return `draft` with `artifact_path` as its one artifact, and every size and sha256 filled in.

    What was measured of an artifact without a sha256 was measured of another file.
    """
    listed = _listed(draft, artifact_path)
    inside(artifact_path.parent, artifact_path.name)
    size, digest = artifact_path.stat().st_size, digest_of(artifact_path)
    check_size(artifact_path, size, listed)
    if listed.sha256:
        check_digest(artifact_path, digest, listed.sha256)
    found = msgspec.structs.replace(
        listed, bytes=size, sha256=digest, value=listed.value if listed.sha256 else None
    )
    anchors = draft.decoder.anchors
    decoder = msgspec.structs.replace(
        draft.decoder, anchors_sha256=digest_of(source / anchors) if anchors else None
    )
    return msgspec.structs.replace(
        draft,
        labels_sha256=digest_of(source / draft.labels),
        decoder=decoder,
        artifact=(found,),
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
