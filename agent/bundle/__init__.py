"""A model bundle: a directory with a manifest, labels and weights, checked by signature and sha256."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.bundle.files import (
    check_digest,
    check_size,
    digest_of,
    inside,
    is_there,
    read_anchors,
    read_file,
    read_labels,
)
from agent.bundle.golden import Golden, read_golden
from agent.bundle.manifest import (
    Accuracy,
    Artifact,
    DecoderSpec,
    InputSpec,
    Manifest,
    parse_manifest,
    preferred,
)
from agent.bundle.trust import NOBODY, UNSIGNED, Origin, Trust, origin_of
from agent.errors import BadData, InputMissing

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "MANIFEST",
    "NOBODY",
    "Accuracy",
    "Artifact",
    "Bundle",
    "DecoderSpec",
    "InputSpec",
    "Manifest",
    "Trust",
    "load_bundle",
    "parse_manifest",
]

MANIFEST = "model.toml"
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A checked bundle. `anchors` is float32 (n, 4) ymin, xmin, ymax, xmax for family "ssd", else None.

    `chosen` is the artifact that runs, where that is another than the best tflite one.
    """

    path: Path
    manifest: Manifest
    labels: tuple[str, ...]
    anchors: NDArray[np.float32] | None = None
    origin: Origin = UNSIGNED
    chosen: Artifact | None = None

    def choose(self, artifact: Artifact) -> Bundle:
        """Return this bundle with `artifact`, one of its own, as the one that runs."""
        return replace(self, chosen=artifact)

    def artifact(self) -> Artifact:
        """Return the artifact that runs: the chosen one, else the best tflite one. Raises BadData without."""
        if self.chosen is not None:
            return self.chosen
        fitting = preferred(self.manifest.artifact, "tflite")
        if not fitting:
            seen = ", ".join(artifact.format for artifact in self.manifest.artifact)
            fix = "without TensorRT the agent runs tflite artifacts: `edge-calibrate build` makes them of an ONNX file"
            raise BadData(f"bundle {self.manifest.name} has no tflite artifact", seen=seen, fix=fix)
        return fitting[0]

    def named(self, file: str) -> Artifact:
        """Return the artifact with the name `file`, which it has."""
        return next(artifact for artifact in self.manifest.artifact if artifact.file == file)

    def file(self, artifact: Artifact) -> Path:
        """Return where the weights of `artifact` are."""
        return self.path / artifact.file

    def golden(self) -> Golden | None:
        """Read what the float network gave, if the bundle has it. Raises InputMissing, BadData, NotPermitted."""
        return read_golden(self.path, self.manifest)

    def doubts(self, artifact: Artifact) -> tuple[tuple[str, str], ...]:
        """Return what to warn of before `artifact` runs: what and fix of each."""
        found = []
        if self.origin.kind == "unsigned":
            fix = "edge-calibrate sign signs it; trust the key in [models] trusted_keys"
            found.append(("the bundle is not signed", fix))
        if self.origin.kind == "unchecked":
            fix = "add the public key of its signer to [models] trusted_keys"
            found.append(("the bundle is signed, but no key is trusted: its signature is not checked", fix))
        if not self.manifest.measured(artifact):
            fix = "edge-calibrate verify measures it on your clips"
            found.append((f"nobody has measured how accurate {artifact.file} is", fix))
        return tuple(found)

    def below_floor(self, artifact: Artifact) -> bool:
        """Tell whether `artifact` was measured below the floor."""
        accuracy, value = self.manifest.accuracy, artifact.value
        return accuracy.state == "measured" and value is not None and value < accuracy.floor

    def check_floor(self, artifact: Artifact) -> None:
        """Raise BadData if `artifact` was measured below the floor."""
        if self.below_floor(artifact):
            accuracy = self.manifest.accuracy
            seen, fix = (
                f"{accuracy.metric} {artifact.value:g}",
                f"its floor is {accuracy.floor:g}: build it anew",
            )
            raise BadData(f"{artifact.file} is not accurate enough", seen=seen, fix=fix)


def load_bundle(path: Path, trust: Trust = NOBODY) -> Bundle:
    """Read the bundle directory `path` and check every file it lists: there, in it, size, sha256, contents.

    Before anything is parsed, the manifest's bytes are checked against its signature and `trust`; the rest is
    held to the manifest. Only `golden` is checked when it is asked for.
    Raises InputMissing for what is not there, BadData for what is not as the manifest says or not trusted,
    NotPermitted for what can't be read.
    """
    if not is_there(path):
        raise InputMissing(
            "model bundle not found", seen=path, fix="give the directory that holds model.toml"
        )
    if not path.is_dir():
        fix = "give the directory that holds model.toml; `edge-agent model add` makes one from a model file"
        raise BadData("model bundle is not a directory", seen=path, fix=fix)
    raw = read_file(path, MANIFEST, most_bytes=_MOST_BYTES)
    origin = origin_of(path, raw, trust)
    manifest = parse_manifest(raw, where=str(path / MANIFEST))
    if origin.kind == "signed" and manifest.unhashed:
        fix = "its signature says nothing about that file: put in the sha256 and sign again"
        raise BadData(f"{path / MANIFEST}: no sha256 for {manifest.unhashed[0]}", fix=fix)
    labels = read_labels(path, manifest)
    anchors = read_anchors(path, manifest.decoder)
    for artifact in manifest.artifact:
        _check_artifact(path, artifact)
    return Bundle(path, manifest, labels, anchors, origin)


def _check_artifact(path: Path, artifact: Artifact) -> None:
    file = inside(path, artifact.file)
    if not artifact.sha256:
        fix = "`edge-agent model add` makes a bundle of a manifest and the weights"
        raise BadData(f"{path / MANIFEST}: no sha256 for {artifact.file}", fix=fix)
    check_size(file, file.stat().st_size, artifact)
    check_digest(file, digest_of(file), artifact.sha256)
