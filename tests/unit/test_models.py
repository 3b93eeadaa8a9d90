"""The models that are shipped, and the manifests of those that are not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.bundle import load_bundle, parse_manifest
from agent.cli import cli
from agent.errors import BadData
from agent.starter import PEOPLE, SHIPPED, STARTER
from calibration.record import REPORT, parse_report

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"
DATA = ROOT / "../shared/data/models"
KNOWN = sorted(MODELS.glob("known/*.toml"))
ARTIFACTS = [(path, artifact) for path in KNOWN for artifact in parse_manifest(path.read_bytes()).artifact]


@pytest.mark.parametrize(
    ("name", "labels", "onnx"),
    [(STARTER, 80, {"fp16"}), (PEOPLE, 1, {"fp16", "int8"})],
    ids=[STARTER, PEOPLE],
)
def test_shipped_models_are_whole(name, labels, onnx):
    """Every sha256 fits; INT8 for LiteRT, FP16 for TensorRT, INT8 too where it agrees; a report and a licence."""
    bundle = load_bundle(MODELS / name)
    assert len(bundle.labels) == labels
    assert bundle.labels[0] == "person"
    assert bundle.artifact().precision == "int8"
    artifacts = bundle.manifest.artifact
    kinds = {(artifact.format, artifact.precision) for artifact in artifacts}
    assert kinds == {("tflite", "int8")} | {("onnx", precision) for precision in onnx}
    assert all(bundle.manifest.measured(artifact) for artifact in artifacts)
    assert all(artifact.value is not None and artifact.value >= 0.95 for artifact in artifacts)
    assert all(artifact.open_batch for artifact in artifacts if artifact.format == "onnx")
    report = parse_report((bundle.path / REPORT).read_bytes())
    assert {artifact.sha256 for artifact in artifacts} <= {artifact.sha256 for artifact in report.artifacts}
    assert "MIT License" in (bundle.path / "LICENSE").read_text()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_are_pinned(name):
    """The package has the hash of each manifest, the manifest those of all other files, and the wheel has them."""
    digest = hashlib.sha256((MODELS / name / "model.toml").read_bytes()).hexdigest()
    assert SHIPPED[name] == digest, f'put "{name}": "{digest}" into SHIPPED of agent/starter.py'
    bundle = load_bundle(MODELS / name)
    bundle.golden()
    assert bundle.origin.kind == "shipped"
    assert bundle.manifest.unhashed == ()
    assert f'models/{name}" = ["models/{name}/*"]' in (ROOT / "pyproject.toml").read_text()


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
def test_known_manifests_have_an_artifact_that_something_takes(path):
    """`model add` makes a bundle of a tflite artifact, `edge-calibrate build` of a float ONNX file."""
    artifacts = parse_manifest(path.read_bytes()).artifact
    assert any(artifact.format == "tflite" or artifact.precision == "fp32" for artifact in artifacts)


@pytest.mark.parametrize(
    ("path", "artifact"), ARTIFACTS, ids=[f"{path.stem}-{artifact.file}" for path, artifact in ARTIFACTS]
)
def test_known_manifests_and_their_files_run(path, artifact, tmp_path):
    """`model add` makes a bundle that runs of each file; of an ONNX file none, and it says what is needed."""
    if not (DATA / artifact.file).is_file():
        pytest.skip(f"{artifact.file} is not in ../shared/data/models")
    command = ["model", "add", "--manifest", str(path), "--artifact", str(DATA / artifact.file)]
    done = CliRunner().invoke(cli, [*command, "--out", str(tmp_path / "bundle")])
    if artifact.format == "tflite":
        assert done.exit_code == 0, done.exception
        assert f"{artifact.precision} runs on" in done.output
        assert load_bundle(tmp_path / "bundle").artifact().sha256 == artifact.sha256
    else:
        assert isinstance(done.exception, BadData)
        assert "the agent runs tflite artifacts" in str(done.exception)
        assert not (tmp_path / "bundle").exists()


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
