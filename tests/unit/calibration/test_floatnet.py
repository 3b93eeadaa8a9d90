"""The float network: held against the model as given, and made anew for other weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from agent.bundle import Bundle, parse_manifest
from agent.bundle.files import digest_of
from agent.errors import BadData, ServiceAway, UsageError
from calibration.building import floatnet, onnxparts
from calibration.building.onnxfile import external_data
from calibration.building.onnxparts import onnx_parts
from calibration.building.workfolder import WorkFolder
from calibration.clips.pictureset import Picture
from calibration.graph import Prepared
from tests.unit.calibration.graph.onnxmodels import model, noise
from tests.unit.calibration.tiny import manifest_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MANIFEST = manifest_text(8)
CHANNELS_LAST = [("Transpose", ["x"], "t", {"perm": [0, 3, 1, 2]}), ("Conv", ["t", "w"], "y", {})]
CONVERTER = "the converter is asked for"


@pytest.fixture
def convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[onnx.ModelProto], None]:
    """Return a function that takes a model, with its weights beside it, as far as the converter."""
    picture = tmp_path / "0.png"
    cv2.imwrite(str(picture), np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    pictures = [Picture(picture, "0.png", 0, 0.0, digest_of(picture), "calibrate")]

    def away(*_: object, **__: object) -> None:
        raise ServiceAway(CONVERTER)

    monkeypatch.setattr(floatnet, "environment", away)

    def run(given: onnx.ModelProto) -> None:
        (tmp_path / "weights.bin").unlink(missing_ok=True)
        file = tmp_path / "given.onnx"
        onnx.save(given, str(file), save_as_external_data=True, location="weights.bin", size_threshold=0)
        draft = Bundle(tmp_path, parse_manifest(MANIFEST), ("person",))
        origin = floatnet.Origin(file, chosen=False, python=None)
        floatnet.float_network(origin, draft, pictures, WorkFolder(tmp_path / "work"), str)

    return run


def test_other_weights_beside_the_file_make_another_network(
    tmp_path: Path, convert: Callable[[onnx.ModelProto], None]
) -> None:
    """The .onnx is the same to the byte; what is outside of it counts too."""
    for value in (1.0, 2.0):
        with pytest.raises(ServiceAway, match=CONVERTER):
            convert(model(CHANNELS_LAST, {"w": np.full((5, 3, 1, 1), value, np.float32)}, size=(1, 8, 8, 3)))
    made = [onnx.load(str(file)) for file in (tmp_path / "work").glob("fp32-*.onnx")]
    assert sorted(float(numpy_helper.to_array(each.graph.initializer[0]).max()) for each in made) == [1, 2]


def test_weights_beside_the_file_are_found(
    tmp_path: Path, convert: Callable[[onnx.ModelProto], None]
) -> None:
    """The report has the hash of each; a file that holds its own has none."""
    with pytest.raises(ServiceAway, match=CONVERTER):
        convert(model(CHANNELS_LAST, {"w": noise(5, 3, 1, 1)}, size=(1, 8, 8, 3)))
    assert external_data(tmp_path / "given.onnx") == {"weights.bin": tmp_path / "weights.bin"}
    (whole,) = (tmp_path / "work").glob("fp32-*.onnx")
    assert external_data(whole) == external_data(tmp_path / "float.tflite") == {}


def test_another_size_of_a_tflite_is_refused(tmp_path: Path) -> None:
    """It can't be rebuilt, and --size is told so before the file is even read."""
    (tmp_path / "float.tflite").write_bytes(b"")
    draft = Bundle(tmp_path, parse_manifest(MANIFEST), ("person",))
    origin = floatnet.Origin(tmp_path / "float.tflite", chosen=True, python=None)
    with pytest.raises(UsageError, match=r"--size with a \.tflite: float\.tflite; leave it out"):
        floatnet.float_network(origin, draft, (), WorkFolder(tmp_path / "work"), str)


def test_a_wrong_rewrite_is_told(
    convert: Callable[[onnx.ModelProto], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network as rewritten is held against the one that was given, before anything is made of it."""
    right = floatnet.prepare

    def wrong(given: onnx.ModelProto, **size: int) -> Prepared:
        made = right(given, **size).model
        weights = made.graph.initializer[0]
        weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * 2, weights.name))
        return Prepared(made, ())

    monkeypatch.setattr(floatnet, "prepare", wrong)
    with pytest.raises(
        BadData, match=r"the rewritten one and the ONNX as given differ in output y: 1; .*mistook"
    ):
        convert(model(CHANNELS_LAST, {"w": noise(5, 3, 1, 1)}, size=(1, 8, 8, 3)))


def test_another_fp16_converter_makes_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its version is among what the result is kept under."""
    master = tmp_path / "fp32.onnx"
    onnx.save(model([("Conv", ["x", "w"], "y", {})], {"w": noise(5, 3, 1, 1)}), str(master))
    monkeypatch.setattr(onnxparts, "_qdq", lambda *_: master.read_bytes())
    draft = Bundle(tmp_path, parse_manifest(MANIFEST), ("person",))
    files = set()
    for version in ("1.16.0", "1.17.0"):
        monkeypatch.setattr(onnxparts, "version", lambda _, version=version: version)
        half, _ = onnx_parts(master, draft, (), (), 0.9, WorkFolder(tmp_path / "work"), str)
        files.add(half.file)
        assert half.made_by.endswith(f"onnxconverter-common {version}")
    assert len(files) == 2
