"""The end of a build: what can't be measured or does not run is told as what it is."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.bundle import Bundle, load_bundle
from agent.bundle.golden import Golden, dump_golden
from agent.starter import starter_bundle
from calibration.building.finishing import check_enough, finish
from calibration.building.floatnet import FloatNetwork
from calibration.building.reporting import FLOAT, INT8, Parts
from calibration.environments import Environment
from calibration.footage import Footage
from calibration.pictures import Picture, PictureSet
from calibration.quantize.curve import Curve, Point
from calibration.verdict import Unmeasured
from tests.unit.calibration.colours import colours_bundle, network, write_pictures

STARTER = starter_bundle()


@pytest.fixture
def nothing_to_see(tmp_path: Path) -> Footage:
    """Three pictures of nobody."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n in range(3):
        cv2.imwrite(str(folder / f"{n}.png"), np.full((48, 64, 3), 80 * n, np.uint8))
    return Footage(folder, 300)


@pytest.mark.parametrize(("each", "enough"), [(2, False), (4, True)])
def test_too_few_pictures_are_told_before_the_search(each: int, enough: bool, tmp_path: Path) -> None:
    """A classifier needs ten; too few is neither a pass nor a fault, with an exit code of its own."""
    draft = colours_bundle(tmp_path / "b", fp32=network(0, 1, 2))
    footage = Footage(write_pictures(tmp_path / "pictures", each=each), 300)
    if enough:
        check_enough(draft, draft.path / "fp32.onnx", footage)
        return
    with pytest.raises(Unmeasured, match="held-out pictures: 6; give more clips: 10 are needed") as told:
        check_enough(draft, draft.path / "fp32.onnx", footage)
    assert told.value.exit_code == 3


def test_too_few_objects_are_told_before_the_search(nothing_to_see: Footage) -> None:
    """A detector needs ten objects in the pictures, however many these are."""
    starter = load_bundle(STARTER)
    with pytest.raises(Unmeasured, match=r"float network finds in the held-out pictures: \d; give more"):
        check_enough(starter, starter.path / INT8, nothing_to_see)


def test_unmeasured_is_not_below_the_floor(tmp_path: Path, nothing_to_see: Footage) -> None:
    """No bundle, and the reason; the report is there."""
    draft, parts = starter(tmp_path)
    with pytest.raises(Unmeasured, match=r"int8\.tflite is unmeasured: fewer than 10 objects"):
        finish(tmp_path / "out", draft, parts, nothing_to_see, tmp_path, lambda _: None)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "report.html").is_file()


def test_int8_that_does_not_run_is_told(tmp_path: Path, nothing_to_see: Footage) -> None:
    """The report is made all the same, without a comparison of both."""
    draft, parts = starter(tmp_path, int8=b"no network")
    finished = finish(tmp_path / "out", draft, parts, nothing_to_see, tmp_path, lambda _: None)
    assert finished.bundle is None
    assert any("no bundle: int8.tflite can't be loaded" in line for line in finished.lines())


def starter(folder: Path, int8: bytes | None = None) -> tuple[Bundle, Parts]:
    """Return parts as a build makes them: the starter's network as float and, unless another is given, as INT8."""
    bundle = load_bundle(STARTER)
    files = {FLOAT: (bundle.path / INT8).read_bytes()}
    files[INT8] = files[FLOAT] if int8 is None else int8
    for name, content in files.items():
        (folder / name).write_bytes(content)
    spec = bundle.manifest.input
    pixels = np.zeros((1, spec.height, spec.width, 3), np.uint8)
    point = Point(folder / INT8, "minmax", (), 1.0, 1.0, 1.0, len(files[INT8]), 1.0)
    seen = Picture(folder / "a.png", "a", 0, 0.0, hashlib.sha256(b"a").hexdigest(), "calibrate")
    parts = Parts(
        folder / FLOAT,
        FloatNetwork(folder / FLOAT, None, (), {FLOAT: "test"}, {}),
        (),
        Curve((point,), 0, ()),
        Environment("quantizer", Path(sys.executable), {"litert-quantizer": "0"}),
        dump_golden(Golden(pixels, (np.zeros((1, 2), np.float32),))),
        PictureSet(folder, (seen,)),
        0.9,
    )
    return bundle, parts
