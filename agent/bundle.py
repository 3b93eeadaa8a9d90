"""A model bundle: a directory with a manifest, labels and weights, every file checked against its sha256."""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from agent.errors import BadData, CannotCreate, InputMissing, NotPermitted
from agent.manifest import (
    Accuracy,
    Artifact,
    DecoderSpec,
    Format,
    InputSpec,
    Manifest,
    dump_manifest,
    parse_manifest,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "Accuracy",
    "Artifact",
    "Bundle",
    "DecoderSpec",
    "InputSpec",
    "Manifest",
    "add_model",
    "load_bundle",
    "parse_manifest",
]

MANIFEST = "model.toml"
_PREFERENCE = ("int8", "fp16", "fp32")
_SMALL_BYTES = 64 << 20
"""Labels, anchors and manifests are read whole; none that is real comes near this."""


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A checked bundle. `anchors` is float32 (n, 4) ymin, xmin, ymax, xmax for family "ssd", else None."""

    path: Path
    manifest: Manifest
    labels: tuple[str, ...]
    anchors: NDArray[np.float32] | None = None

    def artifact(self, format: Format = "tflite") -> Artifact:  # noqa: A002 - the manifest's word
        """Return the artifact of `format` to run: INT8, else FP16, else FP32. Raises BadData without one."""
        fitting = [artifact for artifact in self.manifest.artifact if artifact.format == format]
        if not fitting:
            seen = ", ".join(artifact.format for artifact in self.manifest.artifact)
            fix = f"this device needs a {format} artifact: add one"
            raise BadData(f"bundle {self.manifest.name} has no {format} artifact", seen=seen, fix=fix)
        return min(fitting, key=lambda artifact: _PREFERENCE.index(artifact.precision))

    def file(self, artifact: Artifact) -> Path:
        """Return where the weights of `artifact` are."""
        return self.path / artifact.file


def load_bundle(path: Path) -> Bundle:
    """Read the bundle directory `path` and check every file it lists: there, in it, size, sha256, contents.

    Raises InputMissing for what is not there, BadData for what is not as the manifest says.
    """
    if not path.exists():
        raise InputMissing(
            "model bundle not found", seen=path, fix="give the directory that holds model.toml"
        )
    if not path.is_dir():
        fix = "give the directory that holds model.toml; `edge-agent model add` makes one from a model file"
        raise BadData("model bundle is not a directory", seen=path, fix=fix)
    manifest = parse_manifest(_read(path, MANIFEST), where=str(path / MANIFEST))
    labels = _labels(path, manifest)
    anchors = _anchors(path, manifest.decoder)
    for artifact in manifest.artifact:
        _check_artifact(path, artifact)
    return Bundle(path, manifest, labels, anchors)


def add_model(manifest_path: Path, artifact_path: Path, out_dir: Path) -> Bundle:
    """Make the bundle `out_dir` of a manifest, the labels and anchors next to it, and one file of weights.

    The artifact's size and sha256 are computed where the manifest leaves them out, else verified.
    The directory appears whole or not at all. Raises InputMissing, BadData, or CannotCreate (also for an
    `out_dir` in use).
    """
    source = manifest_path.parent
    draft = parse_manifest(_read(source, manifest_path.name), where=str(manifest_path))
    _labels(source, draft)
    _anchors(source, draft.decoder)
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
    _inside(artifact_path.parent, artifact_path.name)
    size, digest = artifact_path.stat().st_size, _digest(artifact_path)
    _check_size(artifact_path, size, listed)
    if listed.sha256:
        _check_digest(artifact_path, digest, listed.sha256)
    found = msgspec.structs.replace(listed, bytes=size, sha256=digest)
    anchors = draft.decoder.anchors
    decoder = msgspec.structs.replace(
        draft.decoder, anchors_sha256=_digest(source / anchors) if anchors else None
    )
    return msgspec.structs.replace(
        draft, labels_sha256=_digest(source / draft.labels), decoder=decoder, artifact=(found,)
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


def _check_artifact(path: Path, artifact: Artifact) -> None:
    file = _inside(path, artifact.file)
    if not artifact.sha256:
        fix = "`edge-agent model add` makes a bundle of a manifest and the weights"
        raise BadData(f"{path / MANIFEST}: no sha256 for {artifact.file}", fix=fix)
    _check_size(file, file.stat().st_size, artifact)
    _check_digest(file, _digest(file), artifact.sha256)


def _labels(path: Path, manifest: Manifest) -> tuple[str, ...]:
    file = path / manifest.labels
    raw = _read(path, manifest.labels)
    if manifest.labels_sha256 is not None:
        _check_digest(file, _digest(file), manifest.labels_sha256)
    try:
        labels = tuple(line.strip() for line in raw.decode().splitlines())
    except UnicodeDecodeError as error:
        raise BadData(f"{file} is not UTF-8 text", seen=error.reason, fix="one label a line") from None
    for number, label in enumerate(labels, 1):
        if not label or not label.isprintable() or any(c in label for c in "/+#"):
            fix = "labels are MQTT topic levels: printable, not empty, without / + #"
            raise BadData(f"{file}, line {number}", seen=repr(label), fix=fix)
    if not labels:
        raise BadData(f"{file} is empty", fix="write one label a line, in the order of the model's classes")
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise BadData(f"{file}: a label is there twice", seen=twice, fix="give each class a name of its own")
    return labels


def _anchors(path: Path, decoder: DecoderSpec) -> NDArray[np.float32] | None:
    if decoder.anchors is None:
        return None
    file = path / decoder.anchors
    raw = _read(path, decoder.anchors)
    if decoder.anchors_sha256 is not None:
        _check_digest(file, _digest(file), decoder.anchors_sha256)
    try:
        anchors = np.load(io.BytesIO(raw), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise BadData(
            f"{file} is no .npy of numbers", seen=error, fix="save float32 (n, 4) with numpy.save"
        ) from None
    good = isinstance(anchors, np.ndarray) and anchors.dtype.kind == "f" and anchors.shape[1:] == (4,)
    if not good or not len(anchors) or not np.isfinite(anchors).all():
        seen = f"{anchors.dtype} {anchors.shape}" if isinstance(anchors, np.ndarray) else "an archive"
        raise BadData(f"{file}: anchors", seen=seen, fix="need finite float32 (n, 4) ymin, xmin, ymax, xmax")
    checked: NDArray[np.float32] = anchors.astype(np.float32, copy=False)
    return checked


def _check_size(file: Path, size: int, artifact: Artifact) -> None:
    if artifact.bytes and size != artifact.bytes:
        fix = f"the manifest says {artifact.bytes}: the file is cut off or another one, copy it again"
        raise BadData(f"{file}: size in bytes", seen=size, fix=fix)


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with _opened(file) as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _check_digest(file: Path, seen: str, expected: str) -> None:
    if seen != expected.lower():
        fix = f"the manifest says {expected[:12]}...: the file is damaged or another one, copy it again"
        raise BadData(f"{file}: wrong sha256", seen=f"{seen[:12]}...", fix=fix)


def _inside(path: Path, name: str) -> Path:
    """Return `path / name`, a regular file that does not lead out of `path` by a link."""
    file = path / name
    if not file.exists():
        raise InputMissing("model file not found", seen=file, fix="put it there or correct the name")
    if not file.resolve().is_relative_to(path.resolve()):
        raise BadData("model file is a link out of its directory", seen=file, fix="put the file itself there")
    if not file.is_file():
        raise BadData("model file is not a regular file", seen=file, fix="put the file itself there")
    return file


def _read(path: Path, name: str) -> bytes:
    file = _inside(path, name)
    with _opened(file) as stream:
        raw = stream.read(_SMALL_BYTES + 1)
    if len(raw) > _SMALL_BYTES:
        raise BadData(
            "model file is too large for what it is", seen=file, fix=f"at most {_SMALL_BYTES} bytes"
        )
    return raw


def _opened(file: Path) -> io.BufferedReader:
    try:
        return file.open("rb")
    except OSError as error:
        raise NotPermitted(
            f"can't read {file}", seen=error.strerror, fix="make it readable for this user"
        ) from None


def _sync(path: Path) -> None:
    """Make a file or directory durable, so that the rename never reaches the disk before the data."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
