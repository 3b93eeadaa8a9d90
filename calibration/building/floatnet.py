"""The float network that all else is made from: an ONNX and its float .tflite, or a float .tflite alone."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import onnx

from agent import __version__
from agent.backends import open_engine
from agent.bundle.files import digest_of
from agent.errors import BadData, InputMissing, UsageError
from calibration.building.convert import CONVERTED, PREPARED, check_same_network, float_tflite
from calibration.building.draft import check_size
from calibration.building.onnxfile import image_input, open_shapes, read_onnx
from calibration.building.unpack import unpack_fp16
from calibration.environments import environment
from calibration.graph import equalize, fix_size, open_batch, prepare, tidy_tflite
from calibration.inference import float_inputs
from calibration.ortengine import OrtEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from agent.bundle import Bundle
    from calibration.building.workfolder import WorkFolder
    from calibration.pictures import Picture

    Tell = Callable[[str], None]

SAME_PICTURES = 3
"""Pictures that the ONNX and the float .tflite are compared on."""


@dataclass(frozen=True, slots=True)
class FloatNetwork:
    """`tflite` takes (1, H, W, 3), `onnx` the same picture as (1, 3, H, W); `made_by` tells who made each.

    `open_batch`: the ONNX takes any number of pictures at once. `tools` are the programs that had a hand in it,
    with their versions.
    """

    tflite: Path
    onnx: Path | None
    notes: tuple[str, ...]
    made_by: dict[str, str]
    tools: dict[str, str]
    open_batch: bool = False


@dataclass(frozen=True, slots=True)
class Origin:
    """The model file as given. `chosen` says that its size was asked for by --size."""

    file: Path
    chosen: bool
    python: Path | None

    @property
    def is_onnx(self) -> bool:
        """Whether there will be ONNX artifacts."""
        return self.file.suffix.lower() == ".onnx"


def float_network(
    origin: Origin, draft: Bundle, pictures: Sequence[Picture], work: WorkFolder, tell: Tell
) -> FloatNetwork:
    """Return the float network of `origin`, with the input of `draft`, equalized and checked on `pictures`.

    Raises InputMissing, UsageError, BadData, ServiceAway, CannotCreate.
    """
    if not origin.file.is_file():
        raise InputMissing("model file not found", seen=origin.file, fix="check the path")
    if origin.is_onnx:
        return _from_onnx(origin, draft, pictures, work, tell)
    if origin.file.suffix.lower() == ".tflite":
        if origin.chosen:
            fix = "leave it out, or give the ONNX file: a .tflite keeps the size it was made with"
            raise UsageError("--size with a .tflite", seen=origin.file.name, fix=fix)
        return _from_tflite(origin, draft, work)
    raise UsageError("model file", seen=origin.file.name, fix="give a .onnx, or a float .tflite")


def _from_onnx(
    origin: Origin, draft: Bundle, pictures: Sequence[Picture], work: WorkFolder, tell: Tell
) -> FloatNetwork:
    model = read_onnx(origin.file)
    check_size(draft, image_input(model), chosen=origin.chosen)
    spec = draft.manifest.input
    prepared = prepare(model, width=spec.width, height=spec.height)
    if unfixed := list(open_shapes(prepared.model)):
        fix = "export it with fixed shapes and batch 1, without NMS"
        raise BadData(f"{origin.file}: outputs without a fixed shape", seen=", ".join(unfixed), fix=fix)
    single, opened = prepared.model, open_batch(prepared.model)
    pictures_told = "any number of pictures" if opened is not single else "one picture"
    master = work.file("fp32.onnx", {"sha256": _digest(opened)}, lambda: _packed(opened))
    samples = list(float_inputs(draft, pictures[:SAME_PICTURES], "nhwc"))
    check_prepared(fix_size(model, width=spec.width, height=spec.height), master, samples)
    converter = environment("onnx2tf", python=origin.python, progress=tell)
    made_by = f"edge-calibrate {__version__}, onnx2tf {converter.versions['onnx2tf']}"
    shas = [picture.sha256 for picture in pictures]
    key = {"onnx": _digest(single), "input": repr(spec), "pictures": shas, "version": __version__}
    even = work.file("equalized.onnx", key, lambda: _equalized(single, draft, pictures))
    converted_from = {"onnx": digest_of(even), "converter": converter.versions, "version": __version__}
    tflite = work.file(
        "fp32.tflite", converted_from, lambda: tidy_tflite(float_tflite(onnx.load(str(even)), converter))
    )
    with (
        closing(OrtEngine(master, precision="fp32", threads=1)) as reference,
        closing(open_engine(tflite, precision="fp32", threads=1)) as converted,
    ):
        worst = check_same_network(reference, converted, samples, CONVERTED)
    same = f"the float .tflite differs from the ONNX by {worst:.1g} of its largest output at most"
    makers = {"fp32.onnx": f"edge-calibrate {__version__}, onnx {onnx.__version__}", "fp32.tflite": made_by}
    tools = {"onnx": onnx.__version__, "onnx2tf": converter.versions["onnx2tf"]}
    notes = (*prepared.notes, same, f"the ONNX takes {pictures_told} at once")
    tools = {"edge-calibrate": __version__, **tools}
    return FloatNetwork(tflite, master, notes, makers, tools, opened is not single)


def check_prepared(given: onnx.ModelProto, master: Path, samples: Iterable[NDArray[np.float32]]) -> None:
    """Check that the rewritten `master` computes what `given` does for `samples` (1, H, W, 3). Raises BadData."""
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / "given.onnx"
        onnx.save(given, str(file))
        with (
            closing(OrtEngine(file, precision="fp32", threads=1)) as reference,
            closing(OrtEngine(master, precision="fp32", threads=1)) as rewritten,
        ):
            check_same_network(reference, rewritten, samples, PREPARED)


def _equalized(model: onnx.ModelProto, draft: Bundle, pictures: Sequence[Picture]) -> bytes:
    return _packed(equalize(model, float_inputs(draft, pictures, "nchw")))


def _packed(model: onnx.ModelProto) -> bytes:
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _digest(model: onnx.ModelProto) -> str:
    return sha256(_packed(model)).hexdigest()


def _from_tflite(origin: Origin, draft: Bundle, work: WorkFolder) -> FloatNetwork:
    raw = origin.file.read_bytes()
    key = {"source": digest_of(origin.file), "version": __version__}
    with closing(open_engine(origin.file, precision="fp32", threads=1)) as engine:
        seen, spec = engine.input, draft.manifest.input
        if seen.dtype != np.float32:
            fix = "give the float .tflite: quantizing is what this command does"
            raise BadData(f"{origin.file} is quantized already", seen=f"input {seen.dtype}", fix=fix)
        if seen.shape != (1, spec.height, spec.width, 3):
            fix = f"the manifest says (1, {spec.height}, {spec.width}, 3): correct [input], or convert it to NHWC"
            raise BadData("input of the model", seen=seen.shape, fix=fix)
    tflite = work.file("fp32.tflite", key, lambda: tidy_tflite(unpack_fp16(raw)))
    alone = "made from a float .tflite: no ONNX artifacts, so nothing for TensorRT"
    tools = {"edge-calibrate": __version__}
    return FloatNetwork(tflite, None, (alone,), {"fp32.tflite": f"edge-calibrate {__version__}"}, tools)
