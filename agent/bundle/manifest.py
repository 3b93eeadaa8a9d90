"""What a model bundle's `model.toml` says: frozen, typed, checked at construction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from agent.errors import BadData
from agent.strict import dump_toml, parse_toml, shorten, shown, to_struct

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA = 1
Task = Literal["detect", "classify", "clip"]
Family = Literal["yolox", "yolo", "yolo_e2e", "ssd_postprocess", "ssd", "centernet", "classification"]
Format = Literal["tflite", "onnx"]
Precision = Literal["fp32", "fp16", "int8"]
_MOST_NAME_BYTES = 255
"""NAME_MAX of Linux."""
_PREFERENCE = ("int8", "fp16", "fp32")


class InputSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the network eats: size in pixels; real value = (pixel - mean) / std per channel in `colour` order.

    `interpolation` is how frames are made smaller. A network that was trained on pictures scaled without
    smoothing wants "point"; others see small things best with "area" or "bilinear".
    """

    width: int
    height: int
    colour: Literal["rgb", "bgr"] = "rgb"
    resize: Literal["letterbox", "letterbox_center", "stretch", "center_crop"] = "stretch"
    interpolation: Literal["area", "bilinear", "fast_bilinear", "bicubic", "lanczos", "point"] = "area"
    pad: int = 114
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        _between("input.width", self.width, 8, 8192)
        _between("input.height", self.height, 8, 8192)
        _between("input.pad", self.pad, 0, 255)
        for value in self.std:
            if not 0 < value < float("inf"):
                raise BadData("input.std", seen=value, fix="must be above 0")


class DecoderSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the output tensors become boxes.

    `score_threshold` is where the model is best used, the default of event thresholds. `anchors` (ssd) is a
    .npy of float32 (n, 4) ymin, xmin, ymax, xmax as fractions. `box_units` (yolo, yolo_e2e) tells pixels of
    the input from fractions 0..1 of it. `activation` (classification) is what the graph still lacks.
    """

    family: Family
    score_threshold: float = 0.3
    iou_threshold: float = 0.45
    anchors: str | None = None
    anchors_sha256: str | None = None
    box_units: Literal["pixel", "fraction"] = "pixel"
    activation: Literal["none", "softmax"] = "none"

    def __post_init__(self) -> None:
        _between("decoder.score_threshold", self.score_threshold, 0.0, 1.0)
        _between("decoder.iou_threshold", self.iou_threshold, 0.0, 1.0)
        if (self.anchors is not None) != (self.family == "ssd"):
            fix = 'give anchors = "anchors.npy" with family "ssd", and only there'
            raise BadData("decoder.anchors", seen=self.anchors or "none", fix=fix)
        if self.anchors is not None:
            _plain("decoder.anchors", self.anchors)


class Accuracy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The floor an artifact's `value` must reach in `metric`, and whether it was measured at all."""

    metric: Literal["agreement_ap50", "map", "top1"] = "agreement_ap50"
    floor: float = 0.0
    state: Literal["measured", "unmeasured"] = "unmeasured"

    def __post_init__(self) -> None:
        _between("accuracy.floor", self.floor, 0.0, 1.0)


class Artifact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of weights. `bytes` 0 and `sha256` "" are for manifests that come without the weights.

    `value` is what was measured in the manifest's metric, 0..1.
    `open_batch`: it takes any number of pictures at once.
    """

    file: str
    format: Format
    precision: Precision
    layout: Literal["nhwc", "nchw"] = "nhwc"
    bytes: int = 0
    sha256: str = ""
    value: float | None = None
    made_by: str | None = None
    calibration: str | None = None
    open_batch: bool = False

    def __post_init__(self) -> None:
        _plain("artifact.file", self.file)
        if self.value is not None:
            _between("artifact.value", self.value, 0.0, 1.0)


def preferred(artifacts: Sequence[Artifact], format: Format) -> list[Artifact]:  # noqa: A002 - the manifest's word
    """Return the artifacts of `format`, the one to run first: INT8, FP16, FP32."""
    fitting = [artifact for artifact in artifacts if artifact.format == format]
    return sorted(fitting, key=lambda artifact: _PREFERENCE.index(artifact.precision))


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `model.toml`. `origin` is free text: where the model comes from and how to get it.

    `golden` is the .npz of a few inputs and what the float network makes of them, see `agent.bundle.golden`.
    """

    name: str
    version: int
    task: Task
    licence: str
    labels: str
    input: InputSpec
    decoder: DecoderSpec
    artifact: tuple[Artifact, ...]
    schema: int = SCHEMA
    labels_sha256: str | None = None
    golden: str | None = None
    golden_sha256: str | None = None
    origin: str | None = None
    accuracy: Accuracy = msgspec.field(default_factory=Accuracy)

    def __post_init__(self) -> None:
        if not self.name or any(c in self.name for c in "/+#\\") or not self.name.isprintable():
            raise BadData("name", seen=repr(self.name), fix="use printable characters without / + #")
        _between("version", self.version, 1, 2**31)
        _plain("labels", self.labels)
        if self.golden is not None:
            _plain("golden", self.golden)
        if (self.golden is None) != (self.golden_sha256 is None):
            fix = "give golden and golden_sha256, or none of them"
            raise BadData("golden", seen=self.golden or "none", fix=fix)
        if not self.artifact:
            raise BadData("artifact", seen="none", fix="list one [[artifact]] at least")
        files = [artifact.file for artifact in self.artifact]
        if len(set(files)) < len(files):
            raise BadData("artifact.file", seen=", ".join(files), fix="list each file once")
        if (self.task == "classify") != (self.decoder.family == "classification"):
            fix = 'task "classify" goes with decoder family "classification"'
            raise BadData("task", seen=f"{self.task} with {self.decoder.family}", fix=fix)

    def measured(self, artifact: Artifact) -> bool:
        """Tell whether somebody measured how accurate `artifact` is."""
        return self.accuracy.state == "measured" and artifact.value is not None

    @property
    def digests(self) -> dict[str, str | None]:
        """The sha256 of each file, None where it is left out."""
        hashes: dict[str | None, str | None] = {
            self.labels: self.labels_sha256,
            self.decoder.anchors: self.decoder.anchors_sha256,
            self.golden: self.golden_sha256,
            **{artifact.file: artifact.sha256 for artifact in self.artifact},
        }
        return {file: digest for file, digest in hashes.items() if file}

    @property
    def unhashed(self) -> tuple[str, ...]:
        """The files whose sha256 is left out: a signature of the manifest says nothing about them."""
        return tuple(file for file, digest in self.digests.items() if not digest)


def parse_manifest(text: bytes, *, where: str = "model.toml") -> Manifest:
    """Read `text`, TOML in UTF-8. Raises BadData that names the key, for a typo also the right one."""
    tree = parse_toml(text, where=where, fault=BadData)
    if tree.get("schema", SCHEMA) != SCHEMA:
        fix = f"this version reads schema {SCHEMA}: use a bundle made for it or upgrade edge-agent"
        raise BadData(f"{where}: schema", seen=shown(tree["schema"]), fix=fix)
    return to_struct(tree, Manifest, where=where, fault=BadData)


def dump_manifest(manifest: Manifest) -> bytes:
    """Return `manifest` as TOML that `parse_manifest` reads back."""
    return dump_toml(manifest, first=("schema",))


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise BadData(name, seen=value, fix=f"must be {low} to {high}")


def _plain(name: str, file: str) -> None:
    """Refuse what is not the name of a file right in the bundle: paths, `..`, hidden and empty names."""
    if not file or file.startswith(".") or not file.isprintable() or any(c in file for c in "/\\:"):
        raise BadData(name, seen=repr(file), fix="must be a plain file name in the bundle")
    if len(file.encode()) > _MOST_NAME_BYTES:
        raise BadData(name, seen=shorten(file, 40), fix=f"a file name has at most {_MOST_NAME_BYTES} bytes")
