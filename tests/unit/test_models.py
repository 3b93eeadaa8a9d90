"""The models that are shipped, and the manifests of those that are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.bundle import add_model, load_bundle, parse_manifest

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"
DATA = ROOT / "../shared/data/models"
KNOWN = sorted(MODELS.glob("known/*.toml"))


def test_the_starter_is_whole():
    """The starter bundle loads with every sha256 checked and has INT8 for here and FP32 to compare with."""
    bundle = load_bundle(MODELS / "person-ssdlite-300")
    assert bundle.labels == ("person",)
    assert bundle.anchors is not None
    assert bundle.anchors.shape == (1917, 4)
    assert bundle.artifact().precision == "int8"
    assert bundle.artifact("onnx").precision == "fp32"
    assert "MIT License" in (bundle.path / "LICENSE").read_text()


@pytest.mark.parametrize("path", KNOWN, ids=lambda path: path.stem)
def test_known_manifests_are_sound(path):
    """Each known manifest parses, says where the model comes from, and its labels are there."""
    manifest = parse_manifest(path.read_bytes())
    assert manifest.origin
    assert manifest.licence
    assert (path.parent / manifest.labels).is_file()
    voc = {"aeroplane", "motorbike", "sofa", "tvmonitor", "diningtable", "pottedplant"}
    assert not voc & set((path.parent / manifest.labels).read_text().splitlines())


@pytest.mark.parametrize("path", KNOWN, ids=lambda path: path.stem)
def test_known_manifests_make_bundles(path, tmp_path):
    """A known manifest and its weights make a bundle that loads."""
    artifact = parse_manifest(path.read_bytes()).artifact[0]
    if not (DATA / artifact.file).is_file():
        pytest.skip(f"{artifact.file} is not in ../shared/data/models")
    bundle = add_model(path, DATA / artifact.file, tmp_path / "bundle")
    assert bundle.artifact(artifact.format).sha256 == artifact.sha256
    assert bundle.file(bundle.artifact(artifact.format)).is_file()


@pytest.mark.parametrize(
    ("labels", "count", "known"),
    [
        ("coco80.txt", 80, {0: "person", 3: "motorcycle", 4: "airplane", 16: "dog", 79: "toothbrush"}),
        ("coco90.txt", 90, {0: "person", 15: "bird", 16: "cat", 17: "dog", 89: "toothbrush"}),
        ("imagenet1001.txt", 1001, {0: "background", 89: "macaw", 286: "Egyptian cat"}),
        ("vww.txt", 2, {1: "person"}),
    ],
)
def test_labels_stand_where_the_models_expect_them(labels, count, known):
    """Spot checks of class index against name."""
    lines = (MODELS / "known" / labels).read_text().splitlines()
    assert len(lines) == len(set(lines)) == count
    assert {index: lines[index] for index in known} == known
