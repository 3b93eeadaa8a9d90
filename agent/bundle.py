"""A model bundle: a directory with a manifest, labels and weights, every file checked against its sha256."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.bundlefiles import (
    check_digest,
    check_size,
    digest_of,
    inside,
    read_anchors,
    read_file,
    read_labels,
)
from agent.errors import BadData, InputMissing
from agent.manifest import (
    Accuracy,
    Artifact,
    DecoderSpec,
    Format,
    InputSpec,
    Manifest,
    parse_manifest,
    preferred,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "MANIFEST",
    "Accuracy",
    "Artifact",
    "Bundle",
    "DecoderSpec",
    "InputSpec",
    "Manifest",
    "load_bundle",
    "parse_manifest",
]

MANIFEST = "model.toml"


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A checked bundle. `anchors` is float32 (n, 4) ymin, xmin, ymax, xmax for family "ssd", else None."""

    path: Path
    manifest: Manifest
    labels: tuple[str, ...]
    anchors: NDArray[np.float32] | None = None

    def artifact(self, format: Format = "tflite") -> Artifact:  # noqa: A002 - the manifest's word
        """Return the artifact of `format` to run: INT8, else FP16, else FP32. Raises BadData without one."""
        fitting = preferred(self.manifest.artifact, format)
        if not fitting:
            seen = ", ".join(artifact.format for artifact in self.manifest.artifact)
            run = "the agent runs tflite artifacts: convert the model to one and add that"
            fix = run if format == "tflite" else "add one"
            raise BadData(f"bundle {self.manifest.name} has no {format} artifact", seen=seen, fix=fix)
        return fitting[0]

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
    manifest = parse_manifest(read_file(path, MANIFEST), where=str(path / MANIFEST))
    labels = read_labels(path, manifest)
    anchors = read_anchors(path, manifest.decoder)
    for artifact in manifest.artifact:
        _check_artifact(path, artifact)
    return Bundle(path, manifest, labels, anchors)


def _check_artifact(path: Path, artifact: Artifact) -> None:
    file = inside(path, artifact.file)
    if not artifact.sha256:
        fix = "`edge-agent model add` makes a bundle of a manifest and the weights"
        raise BadData(f"{path / MANIFEST}: no sha256 for {artifact.file}", fix=fix)
    check_size(file, file.stat().st_size, artifact)
    check_digest(file, digest_of(file), artifact.sha256)
