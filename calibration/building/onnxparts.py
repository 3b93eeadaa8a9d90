"""The stages of a build that make the ONNX artifacts."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

import onnx
import onnxruntime

from agent import __version__
from agent.bundle.files import digest_of
from calibration.building.onnxforms import modern, ranges_of, search_qdq, to_fp16
from calibration.building.scoring import measured_by, scorer
from calibration.inference import float_inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.bundle import Bundle
    from calibration.building.workfolder import WorkFolder
    from calibration.pictures import Picture

_NOTE = "edge-calibrate"
"""Key in the ONNX's metadata of a sentence on how it was made."""


@dataclass(frozen=True, slots=True)
class OnnxPart:
    """An ONNX artifact: its name in the bundle, the file, who made it, and what there is to say of it."""

    name: str
    file: Path
    precision: Literal["fp16", "int8"]
    made_by: str
    note: str = ""


def onnx_parts(
    master: Path | None,
    draft: Bundle,
    pictures: Sequence[Picture],
    scored: Sequence[Picture],
    floor: float,
    work: WorkFolder,
    say: Callable[[str], None],
) -> tuple[OnnxPart, ...]:
    """Return the FP16 and Q/DQ forms of `master`, calibrated on `pictures`; none without one. Raises BadData.

    As few layers of the Q/DQ form stay in FP16 as it takes to reach `floor` on `scored`.
    """
    if master is None:
        return ()
    say("making fp16.onnx and int8-qdq.onnx")
    converter = version("onnxconverter-common")
    versions = {
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "onnxconverter-common": converter,
        "agent": __version__,
    }
    key = {"onnx": digest_of(master), **versions}
    fp16 = work.file("fp16.onnx", key, lambda: _packed(to_fp16(modern(onnx.load(str(master))))))
    searched = {
        **key,
        "measure": measured_by(draft),
        "floor": floor,
        "pictures": sorted(picture.sha256 for picture in pictures),
        "scored": sorted(picture.sha256 for picture in scored),
    }
    qdq = work.file("int8-qdq.onnx", searched, lambda: _qdq(master, draft, pictures, scored, floor))
    made_by = f"edge-calibrate {__version__}, onnx {onnx.__version__}"
    return (
        OnnxPart("fp16.onnx", fp16, "fp16", f"{made_by}, onnxconverter-common {converter}"),
        OnnxPart(
            "int8-qdq.onnx", qdq, "int8", f"{made_by}, onnxruntime {onnxruntime.__version__}", _note_of(qdq)
        ),
    )


def _qdq(
    master: Path, draft: Bundle, pictures: Sequence[Picture], scored: Sequence[Picture], floor: float
) -> bytes:
    model = modern(onnx.load(str(master)))
    ranges = ranges_of(model, float_inputs(draft, pictures, "nchw"))
    agree = scorer(draft, master, scored)
    with TemporaryDirectory() as scratch:
        candidate = Path(scratch) / "candidate.onnx"

        def score(form: onnx.ModelProto) -> float:
            onnx.save(form, str(candidate))
            return agree(candidate)

        form, layers = search_qdq(model, ranges, score, floor=floor)
    note = f"the first {layers} convolutions of int8-qdq.onnx stay in FP16" if layers else ""
    onnx.helper.set_model_props(form, {_NOTE: note})
    return _packed(form)


def _note_of(file: Path) -> str:
    said: dict[str, str] = {entry.key: entry.value for entry in onnx.load(str(file)).metadata_props}
    return said.get(_NOTE, "")


def _packed(model: onnx.ModelProto) -> bytes:
    content: bytes = model.SerializeToString(deterministic=True)
    return content
