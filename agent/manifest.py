"""What a model bundle's `model.toml` says: frozen, typed, checked at construction."""

from __future__ import annotations

import difflib
import sys
from typing import Any, Literal

import msgspec
import tomli_w

from agent.errors import BadData

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = 1
Task = Literal["detect", "classify", "clip"]
Family = Literal["yolox", "yolo", "yolo_e2e", "ssd_postprocess", "ssd", "centernet", "classification"]
Format = Literal["tflite", "onnx"]
Precision = Literal["fp32", "fp16", "int8"]


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
                raise BadData("model.toml: input.std", seen=value, fix="must be above 0")


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
            raise BadData("model.toml: decoder.anchors", seen=self.anchors or "none", fix=fix)
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
    """One file of weights. `bytes` 0 and `sha256` "" are for manifests that come without the weights."""

    file: str
    format: Format
    precision: Precision
    layout: Literal["nhwc", "nchw"] = "nhwc"
    bytes: int = 0
    sha256: str = ""
    value: float | None = None
    made_by: str | None = None
    calibration: str | None = None

    def __post_init__(self) -> None:
        _plain("artifact.file", self.file)


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `model.toml`. `origin` is free text: where the model comes from and how to get it."""

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
    origin: str | None = None
    accuracy: Accuracy = msgspec.field(default_factory=Accuracy)

    def __post_init__(self) -> None:
        if not self.name or any(c in self.name for c in "/+#\\") or not self.name.isprintable():
            raise BadData(
                "model.toml: name", seen=repr(self.name), fix="use printable characters without / + #"
            )
        _between("version", self.version, 1, 2**31)
        _plain("labels", self.labels)
        if not self.artifact:
            raise BadData("model.toml: no [[artifact]]", fix="list one file at least")
        files = [artifact.file for artifact in self.artifact]
        if len(set(files)) < len(files):
            raise BadData(
                "model.toml: artifact.file is listed twice", seen=", ".join(files), fix="list it once"
            )
        if (self.task == "classify") != (self.decoder.family == "classification"):
            fix = 'task "classify" goes with decoder family "classification"'
            raise BadData("model.toml: task", seen=f"{self.task} with {self.decoder.family}", fix=fix)


def parse_manifest(text: bytes, *, where: str = "model.toml") -> Manifest:
    """Read `text`, TOML in UTF-8. Raises BadData that names the key, for a typo also the right one."""
    try:
        tree = tomllib.loads(text.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadData(f"{where} is not TOML", seen=error, fix="correct the file") from None
    if tree.get("schema", SCHEMA) != SCHEMA:
        fix = f"this version reads schema {SCHEMA}: use a bundle made for it or upgrade edge-agent"
        raise BadData(f"{where}: schema", seen=repr(tree["schema"]), fix=fix)
    _known_keys(tree, Manifest, where, "")
    try:
        return msgspec.convert(tree, Manifest)
    except BadData as error:
        raise BadData(error.what.replace("model.toml", where), seen=error.seen, fix=error.fix) from None
    except msgspec.ValidationError as error:
        raise BadData(where, seen=_tell(str(error)), fix="correct the key") from None


def dump_manifest(manifest: Manifest) -> bytes:
    """Return `manifest` as TOML that `parse_manifest` reads back."""
    tree = msgspec.to_builtins(manifest)
    tables = {key: tree.pop(key) for key in ("input", "decoder", "accuracy", "artifact")}
    text: str = tomli_w.dumps(_without_none({"schema": tree.pop("schema"), **tree, **tables}))
    return text.encode()


def _without_none(tree: dict[str, Any]) -> dict[str, Any]:
    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return _without_none(value)
        return [clean(item) for item in value] if isinstance(value, (list, tuple)) else value

    return {key: clean(value) for key, value in tree.items() if value is not None}


def _known_keys(tree: dict[str, Any], struct: type[msgspec.Struct], where: str, path: str) -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
    for key, value in tree.items():
        if key not in fields:
            raise BadData(f"{where}: unknown key", seen=path + key, fix=_suggestion(key, list(fields)))
        kind = Artifact if key == "artifact" else fields[key]
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, dict):
                    _known_keys(part, kind, where, f"{path}{key}.")


def _suggestion(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f'did you mean "{close[0]}"?' if close else f"known keys: {', '.join(known)}"


def _tell(error: str) -> str:
    """Turn msgspec's "..., - at `$.input.width`" into "input.width: ..."."""
    text, _, path = error.partition(" - at `$.")
    return f"{path.rstrip('`')}: {text}" if path else text


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise BadData(f"model.toml: {name}", seen=value, fix=f"must be {low} to {high}")


def _plain(name: str, file: str) -> None:
    """Refuse what is not the name of a file right in the bundle: paths, `..`, hidden and empty names."""
    if not file or file.startswith(".") or not file.isprintable() or any(c in file for c in "/\\:"):
        raise BadData(f"model.toml: {name}", seen=repr(file), fix="must be a plain file name in the bundle")
