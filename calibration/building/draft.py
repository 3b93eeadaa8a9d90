"""The bundle to be: the user's manifest, its labels and anchors, and what the command line changes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent.bundle import Bundle, parse_manifest
from agent.bundle.files import read_anchors, read_file, read_labels
from agent.errors import BadData, InputMissing, UsageError
from calibration.verdict import DEFAULT_FLOOR

if TYPE_CHECKING:
    from pathlib import Path

    from calibration.building.onnxfile import ImageInput


def read_draft(manifest: Path, *, size: tuple[int, int] | None, floor: float | None) -> Bundle:
    """Return a Bundle without checked artifacts: what the decoders and the preprocessor need.

    `size` (width, height) and `floor` replace what the manifest says; a floor of 0 there means that it has none.
    Raises InputMissing, BadData.
    """
    if not manifest.is_file():
        raise InputMissing("manifest not found", seen=manifest, fix="give one such as those of models/known")
    folder = manifest.parent
    draft = parse_manifest(read_file(folder, manifest.name), where=str(manifest))
    if draft.task == "clip":
        raise BadData("task", seen="clip", fix="this version builds detectors and classifiers")
    if size is not None:
        draft = msgspec.structs.replace(
            draft, input=msgspec.structs.replace(draft.input, width=size[0], height=size[1])
        )
    metric = "top1" if draft.task == "classify" else "agreement_ap50"
    accuracy = msgspec.structs.replace(
        draft.accuracy,
        metric=metric,
        floor=(draft.accuracy.floor or DEFAULT_FLOOR) if floor is None else floor,
    )
    draft = msgspec.structs.replace(draft, accuracy=accuracy, golden=None, golden_sha256=None)
    return Bundle(folder, draft, read_labels(folder, draft), read_anchors(folder, draft.decoder))


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height of "WxH" in pixels. Raises UsageError."""
    width, x, height = text.lower().partition("x")
    if not (x and width.isdecimal() and height.isdecimal()):
        raise UsageError("--size", seen=text, fix="write it as 416x416, width first")
    return int(width), int(height)


def check_size(draft: Bundle, picture: ImageInput, *, chosen: bool) -> None:
    """Raise BadData when the graph's own size is not the manifest's, unless another was `chosen`."""
    spec = draft.manifest.input
    fits = picture.width in (None, spec.width) and picture.height in (None, spec.height)
    if not fits and not chosen:
        seen = f"{picture.width or '?'}x{picture.height or '?'}"
        fix = (
            f"the manifest says {spec.width}x{spec.height}: correct [input], or give "
            f"--size {spec.width}x{spec.height} to have the network rebuilt for that"
        )
        raise BadData("input of the model", seen=seen, fix=fix)
