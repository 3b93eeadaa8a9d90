"""The files of a model bundle: in their directory, of the size and sha256 that the manifest says."""

from __future__ import annotations

import contextlib
import hashlib
import io
from typing import TYPE_CHECKING

import numpy as np

from agent.errors import BadData, InputMissing, NotPermitted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from agent.bundle.manifest import Artifact, DecoderSpec, Manifest

_SMALL_BYTES = 64 << 20
"""Labels, anchors and golden files are read whole; none that is real comes near this."""


def read_file(path: Path, name: str, *, sha256: str | None = None, most_bytes: int = _SMALL_BYTES) -> bytes:
    """Return what `name`, anything in `path` but weights, holds; with `sha256` only if it is that.

    Raises InputMissing, BadData, NotPermitted.
    """
    file = inside(path, name)
    with _opened(file) as stream:
        raw = stream.read(most_bytes + 1)
    if len(raw) > most_bytes:
        raise BadData("model file is too large for what it is", seen=file, fix=f"at most {most_bytes} bytes")
    if sha256 is not None:
        check_digest(file, hashlib.sha256(raw).hexdigest(), sha256)
    return raw


def inside(path: Path, name: str) -> Path:
    """Return `path / name`, a regular file that does not lead out of `path` by a link.

    Raises InputMissing, BadData, NotPermitted.
    """
    file = path / name
    if not is_there(file):
        raise InputMissing("model file not found", seen=file, fix="put it there or correct the name")
    if not file.resolve().is_relative_to(path.resolve()):
        raise BadData("model file is a link out of its directory", seen=file, fix="put the file itself there")
    if not file.is_file():
        raise BadData("model file is not a regular file", seen=file, fix="put the file itself there")
    return file


def is_there(path: Path) -> bool:
    """Tell whether `path` is there. Raises NotPermitted if it can't be looked at, or can't be a path."""
    try:
        return path.exists()
    except OSError as error:
        fix = "check the path, and make its directory readable for this user"
        raise NotPermitted(f"can't look at {path}", seen=error.strerror, fix=fix) from None


def read_weights(file: Path, sha256: str | None = None) -> bytes:
    """Return what `file` holds; with `sha256` only if it is that. Raises InputMissing, BadData, NotPermitted."""
    if not file.is_file():
        raise InputMissing("model file", seen=file, fix="check the path")
    with _opened(file) as stream:
        raw = stream.read()
    if sha256 is not None:
        check_digest(file, hashlib.sha256(raw).hexdigest(), sha256)
    return raw


def read_labels(path: Path, manifest: Manifest) -> tuple[str, ...]:
    """Return the labels of `manifest`, in the directory `path`. Raises InputMissing, BadData."""
    file = path / manifest.labels
    raw = read_file(path, manifest.labels, sha256=manifest.labels_sha256)
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


def read_anchors(path: Path, decoder: DecoderSpec) -> NDArray[np.float32] | None:
    """Return the anchors, float32 (n, 4), if `decoder` has any. Raises InputMissing, BadData."""
    if decoder.anchors is None:
        return None
    file = path / decoder.anchors
    raw = read_file(path, decoder.anchors, sha256=decoder.anchors_sha256)
    try:
        anchors = np.load(io.BytesIO(raw), allow_pickle=False)
    except Exception as error:  # noqa: BLE001 - of damaged bytes NumPy raises a dozen kinds, MemoryError too
        raise BadData(
            f"{file} is no .npy of numbers", seen=error, fix="save float32 (n, 4) with numpy.save"
        ) from None
    good = isinstance(anchors, np.ndarray) and anchors.dtype.kind == "f" and anchors.shape[1:] == (4,)
    if not good or not len(anchors) or not np.isfinite(anchors).all():
        seen = f"{anchors.dtype} {anchors.shape}" if isinstance(anchors, np.ndarray) else "an archive"
        raise BadData(f"{file}: anchors", seen=seen, fix="need finite float32 (n, 4) ymin, xmin, ymax, xmax")
    checked: NDArray[np.float32] = anchors.astype(np.float32, copy=False)
    return checked


def check_size(file: Path, size: int, artifact: Artifact) -> None:
    """Raise BadData if `artifact` has another size than `size`."""
    if artifact.bytes and size != artifact.bytes:
        fix = f"the manifest says {artifact.bytes}: the file is cut off or another one, copy it again"
        raise BadData(f"{file}: size in bytes", seen=size, fix=fix)


def digest_of(file: Path) -> str:
    """Return the sha256 of `file`, in hexadecimal. Raises NotPermitted."""
    digest = hashlib.sha256()
    with _opened(file) as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def check_digest(file: Path, seen: str, expected: str) -> None:
    """Raise BadData if the sha256 `seen` is not the one the manifest has."""
    if seen != expected.lower():
        fix = f"the manifest says {expected[:12]}...: the file is damaged or another one, copy it again"
        raise BadData(f"{file}: wrong sha256", seen=f"{seen[:12]}...", fix=fix)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[io.BufferedReader]:
    """Give `file` to be read. Raises NotPermitted, and BadData where the disk can't read it to its end."""
    try:
        stream = file.open("rb")
    except OSError as error:
        raise NotPermitted(
            f"can't read {file}", seen=error.strerror, fix="make it readable for this user"
        ) from None
    with stream:
        try:
            yield stream
        except OSError as error:
            fix = "copy it again; the disk or card may fail"
            raise BadData(f"can't read {file} to its end", seen=error.strerror, fix=fix) from None
