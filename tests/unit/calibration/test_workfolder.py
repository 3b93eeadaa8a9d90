"""The work folder: one build at a time, nothing of a killed one left, nothing of another measure taken again."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from agent.errors import CannotCreate
from agent.starter import PEOPLE, shipped_bundle
from calibration.building.draft import read_draft
from calibration.building.scoring import measured_by
from calibration.building.workfolder import SCRATCH, WorkFolder
from calibration.environments import Environment
from calibration.quantize.store import read_arrays, write_arrays
from calibration.quantize.variants import Workshop

SHIPPED = shipped_bundle(PEOPLE)


def test_a_second_build_is_kept_out(tmp_path: Path) -> None:
    """It would take away what the first one works on; after that one's end it may come in."""
    with (
        WorkFolder(tmp_path).alone(),
        pytest.raises(CannotCreate, match=r"another build works in: .*--work"),
        WorkFolder(tmp_path).alone(),
    ):
        pass
    with WorkFolder(tmp_path).alone():
        pass


def test_what_a_killed_build_left_is_cleared_away(tmp_path: Path) -> None:
    """Half-written files, orders to the quantizer, scratch folders; results, and pictures half chosen, stay."""
    left = [
        "int8-0123/a.float",
        "int8-0123/b.job",
        "int8-0123/.c.tflite.0123abcd.part",
        ".d.onnx.0123abcd.part",
    ]
    kept = ["int8-0123/e.tflite", "fp32-01.tflite", "tmp/mine.job", ".pictures-0123456789abcdef.part/f.png"]
    for name in (*left, *kept, f"{SCRATCH}x/bundle/model.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    with WorkFolder(tmp_path).alone():
        found = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert found == {*kept, ".lock"}
    assert not list(tmp_path.glob(f"{SCRATCH}*"))


def test_other_anchors_are_another_measure(tmp_path: Path) -> None:
    """Also where the manifest does not say their sha256."""
    folder = tmp_path / "draft"
    shutil.copytree(SHIPPED, folder)
    text = (folder / "model.toml").read_text().splitlines()
    (folder / "model.toml").write_text("\n".join(x for x in text if not x.startswith("anchors_sha256")))
    before = measured_by(read_draft(folder / "model.toml", size=None, floor=None))
    anchors = np.load(folder / "anchors.npy")
    assert measured_by(read_draft(folder / "model.toml", size=None, floor=None)) == before
    np.save(folder / "anchors.npy", anchors / 2)
    assert measured_by(read_draft(folder / "model.toml", size=None, floor=None)) != before


def test_another_quantizer_makes_other_networks(tmp_path: Path) -> None:
    """Those of an older version are not taken for its."""
    model = tmp_path / "float.tflite"
    model.write_bytes(b"any")
    old, new = (
        Workshop(model, {}, tmp_path, Environment("quantizer", Path("python"), {"a": version}), bounded=False)
        for version in ("1.0", "1.1")
    )
    assert old.file(()) != new.file(())


def test_damaged_statistics_are_counted_again(tmp_path: Path) -> None:
    """Whichever byte is another, and wherever the file ends."""
    file = tmp_path / "kept.npz"
    arrays = {"pictures": np.array(3), "values": np.random.default_rng(0).normal(size=20)}
    write_arrays(file, arrays)
    whole = file.read_bytes()
    for at in range(len(whole)):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]):
            file.write_bytes(damaged)
            seen = read_arrays(file)
            assert seen is None or all(np.array_equal(seen[name], arrays[name]) for name in seen)
