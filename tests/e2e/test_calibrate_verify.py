"""`edge-calibrate verify` and `compare` on real networks, good and bad ones, with real pictures."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.bundle import MANIFEST, Artifact, parse_manifest
from agent.bundle.manifest import dump_manifest

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
STILLS = DATA / "images" / "coco_val64"
LABELS = DATA / "images" / "coco_val64.json"
PETS = DATA / "video" / "vtest_pets09_s2l1.avi"
KNOWN = ROOT / "models" / "known"
SSDLITE = ROOT / "models" / "person-ssdlite-300" / MANIFEST
YOLOX = ("yolox_nano_416_fp32.onnx", "fp32", "nchw")

pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason="needs the test data in ../shared (real clips and models)"),
    pytest.mark.timeout(1800),
]
GOOD = {
    "person-ssdlite": (
        SSDLITE,
        ("ped_ssdlite_300_fp32.onnx", "fp32", "nhwc"),
        ("ped_ssdlite_300_int8.tflite", "int8", "nhwc"),
    ),
    "ti-lite": (
        KNOWN / "yolox-nano-ti-lite-320-int8.toml",
        ("yolox_nano_ti_lite_320_dw_fp16.tflite", "fp16", "nhwc"),
        ("yolox_nano_ti_lite_320_dw_int8.tflite", "int8", "nhwc"),
    ),
    "centernet": (
        KNOWN / "centernet-mbv3-512.toml",
        ("centernet_mbv3_512_fp32.onnx", "fp32", "nhwc"),
        ("centernet_mbv3_512_fp16.tflite", "fp16", "nhwc"),
    ),
    "vww": (
        KNOWN / "vww-96.toml",
        ("vww_96_fp32.tflite", "fp32", "nhwc"),
        ("vww_96_int8.tflite", "int8", "nhwc"),
    ),
}
"""Pairs that agree: the reference first."""


def make_bundle(folder: Path, manifest: Path, *files: tuple[str, str, str]) -> Path:
    """Make a bundle of networks of the test data: file, precision, layout; no floor of its own."""
    folder.mkdir()
    artifacts = []
    for name, precision, layout in files:
        source = DATA / "models" / name
        shutil.copyfile(source, folder / source.name)
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        form = source.suffix[1:]
        artifacts.append(Artifact(source.name, form, precision, layout, source.stat().st_size, digest))
    draft = parse_manifest(manifest.read_bytes())
    for name in filter(None, (draft.labels, draft.decoder.anchors)):
        shutil.copyfile(manifest.parent / name, folder / name)
    whole = msgspec.structs.replace(
        draft, artifact=tuple(artifacts), accuracy=msgspec.structs.replace(draft.accuracy, floor=0.0)
    )
    (folder / MANIFEST).write_bytes(dump_manifest(whole))
    return folder


def calibrate(*args: object) -> subprocess.CompletedProcess[str]:
    """Run `edge-calibrate`."""
    command = [sys.executable, "-m", "calibration", *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def verify(bundle: Path, clips: Path, *options: object) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the document."""
    done = calibrate("verify", bundle, "--clips", clips, "--json", *options)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def by_file(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {artifact["file"]: artifact for artifact in document["artifacts"]}


def test_bad_int8_is_refused_by_agreement_alone(tmp_path: Path) -> None:
    """Without labels: one calibrated with a wrong range, a naive one, and one that no runtime loads.

    Both that load lie below the floor with the whole of their interval, and more than as wide as it is.
    """
    bundle = make_bundle(
        tmp_path / "bundle",
        KNOWN / "yolox-nano.toml",
        YOLOX,
        ("bad/yolox_nano_416_int8_badcalib_nchw.tflite", "int8", "nchw"),
        ("bad/yolox_nano_416_int8_ptq_degraded.tflite", "int8", "nhwc"),
        ("bad/person_detect_unloadable.tflite", "int8", "nhwc"),
    )
    code, document = verify(bundle, STILLS)
    found = by_file(document)
    assert (code, document["state"], document["frames"]) == (1, "fault", 64)
    assert found["yolox_nano_416_fp32.onnx"]["state"] == "reference"
    for bad in ("yolox_nano_416_int8_badcalib_nchw.tflite", "yolox_nano_416_int8_ptq_degraded.tflite"):
        agreement = found[bad]["figures"]["agreement"]
        assert found[bad]["state"] == "below"
        assert agreement["high"] + (agreement["high"] - agreement["low"]) < document["floor"]
    unloadable = found["person_detect_unloadable.tflite"]
    assert unloadable["state"] == "broken"
    assert "can't be loaded by the runtime: quantized_dimension" in unloadable["reason"]


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("clips", [pytest.param(STILLS, id="stills"), pytest.param(PETS, id="pets")])
def test_good_pairs_are_accepted(name: str, clips: Path, tmp_path: Path) -> None:
    """Every sound partner passes the default floor, on stills of 80 classes and on a clip, interval and all."""
    manifest, *pair = GOOD[name]
    code, document = verify(make_bundle(tmp_path / "bundle", manifest, *pair), clips, "--count", 60)
    reference, candidate = document["artifacts"]
    assert (code, reference["state"], candidate["state"]) == (0, "reference", "passed")
    assert candidate["figures"][document["metric"]]["low"] > document["floor"]
    assert ("flicker" in candidate["figures"]) == (clips == PETS)


def test_map_is_the_one_known(tmp_path: Path) -> None:
    """FP32 YOLOX reaches the 33.1 mAP of a plain OpenCV script through the agent's own preprocessing."""
    bundle = make_bundle(tmp_path / "bundle", KNOWN / "yolox-nano.toml", YOLOX)
    _, document = verify(bundle, STILLS, "--labels", LABELS)
    (network,) = document["artifacts"]
    assert network["figures"]["map"]["value"] == pytest.approx(0.331, abs=0.01)
    assert network["figures"]["map"]["low"] < 0.331 < network["figures"]["map"]["high"]


def test_classifier_without_a_float_partner(tmp_path: Path) -> None:
    """MobileNet exists as INT8 alone: unmeasured, until labels say what is right."""
    bundle = make_bundle(
        tmp_path / "bundle",
        KNOWN / "mobilenet-v2-224.toml",
        ("mobilenet_v2_1.0_224_quant.tflite", "int8", "nhwc"),
    )
    photos = DATA / "images" / "photos"
    assert verify(bundle, photos)[0] == 3
    labels = tmp_path / "labels.csv"
    labels.write_text("parrot.jpg,macaw\nhot_dog.jpg,hot dog\ncat_720p.jpg,Egyptian cat\n")
    code, document = verify(bundle, photos, "--labels", labels, "--floor", 0.9)
    assert (code, document["metric"]) == (0, "top1")


def test_compare_shows_where_two_disagree(tmp_path: Path) -> None:
    """Figures of both over the labels in common, their speed in turn, memory, and a page with pictures."""
    a = make_bundle(tmp_path / "a", GOOD["ti-lite"][0], GOOD["ti-lite"][2])
    b = make_bundle(tmp_path / "b", GOOD["person-ssdlite"][0], GOOD["person-ssdlite"][2])
    done = calibrate(
        "compare", a, b, "--clips", STILLS, "--labels", LABELS, "--out", tmp_path / "out", "--json"
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["labels_in_common"] == 1
    assert 0.1 < document["b"]["figures"]["map"]["value"] < 0.3
    assert 30 < document["a"]["rss_mb"] < 300
    assert document["speed"]["low"] < document["speed"]["value"] < document["speed"]["high"]
    assert document["worst"]
    page = (tmp_path / "out" / "compare.html").read_text()
    assert page.count("data:image/jpeg") == 2 * len(document["worst"])
    assert json.loads((tmp_path / "out" / "compare.json").read_text()) == document
