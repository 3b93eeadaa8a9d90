"""`edge-calibrate build` on real models and pictures: bundles that run, twice the same, and bad input in one line.

The converters are installed into the user's cache on the first run, which takes minutes.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.bundle import load_bundle
from agent.errors import InputMissing
from calibration.pythons import find_python
from tests.patience import HANGS_S

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
MODELS, KNOWN = DATA / "models", ROOT / "models" / "known"
TRAIN, VAL = DATA / "images" / "coco_train64", DATA / "images" / "coco_val64"
SSDLITE = ROOT / "models" / "person-ssdlite-300" / "model.toml"


def converters_can_run() -> bool:
    """Tell whether there is a Python for them."""
    try:
        find_python()
    except InputMissing:
        return False
    return True


pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason="needs the models and pictures in ../shared/data"),
    pytest.mark.skipif(not converters_can_run(), reason="needs Python 3.12 or 3.13 for the converters"),
    pytest.mark.timeout(1800),  # the first test of a machine waits for the converters' installation
]


def edge_calibrate(*args: object, within_s: float = 3000) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "calibration", *map(str, args)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )


def build(model: Path, manifest: Path, out: Path, *args: object) -> subprocess.CompletedProcess[str]:
    """Build on COCO's training pictures."""
    options = args if "--clips" in args else ("--clips", TRAIN, "--held-out", VAL, *args)
    return edge_calibrate("build", model, "--manifest", manifest, "--out", out, *options)


def digests(bundle: Path) -> dict[str, str]:
    """Return the sha256 of every file but the report's two."""
    names = {file.name for file in bundle.iterdir()} - {"report.json", "report.html"}
    return {name: hashlib.sha256((bundle / name).read_bytes()).hexdigest() for name in sorted(names)}


def untimed_report(bundle: Path) -> list[str]:
    """Return the lines of report.json but for milliseconds, which differ from run to run."""
    return [line for line in (bundle / "report.json").read_text().splitlines() if '"ms' not in line]


def refused(done: subprocess.CompletedProcess[str], out: Path, *, code: int, told: str) -> None:
    """Check that it ended with `code` and one line that has `told`, and made no bundle."""
    line = done.stderr.strip().splitlines()[-1]
    assert done.returncode == code, done.stderr
    assert told in line
    assert "Traceback" not in done.stderr
    assert not out.exists()


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_the_starter_is_built_twice_byte_for_byte(tmp_path: Path) -> None:
    """person-ssdlite, in two work folders: the same artifacts, a bundle that `run` takes and `verify` passes."""
    source = MODELS / "ped_ssdlite_300_fp32.onnx"
    for name in ("one", "two"):
        done = build(source, SSDLITE, tmp_path / name)
        assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert untimed_report(tmp_path / "one") == untimed_report(tmp_path / "two")
    bundle = load_bundle(tmp_path / "one")
    listed = {artifact.file for artifact in bundle.manifest.artifact}
    assert listed == {"int8.tflite", "fp32.tflite", "fp32.onnx", "fp16.onnx", "int8-qdq.onnx"}
    assert all(bundle.manifest.measured(artifact) for artifact in bundle.manifest.artifact)
    report = json.loads((tmp_path / "one" / "report.json").read_text())
    assert report["search"]["points"]
    verified = edge_calibrate("verify", tmp_path / "one", "--clips", VAL)
    assert verified.returncode == 0, verified.stdout


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_classifier_is_built_from_a_float_tflite(tmp_path: Path) -> None:
    """Visual Wake Words: no ONNX artifacts, and the user is told so."""
    done = build(MODELS / "vww_96_fp32.tflite", KNOWN / "vww-96.toml", tmp_path / "vww")
    assert done.returncode == 0, done.stderr
    assert "made from a float .tflite: no ONNX artifacts" in done.stdout
    artifacts = load_bundle(tmp_path / "vww").manifest.artifact
    assert {artifact.file for artifact in artifacts} == {"int8.tflite", "fp32.tflite"}


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_killed_in_the_middle_it_goes_on(tmp_path: Path) -> None:
    """SIGKILL, then Ctrl-C, each while it works: nothing half-written, no worker left, a re-run finishes."""
    out, work = tmp_path / "vww", tmp_path / "vww.work"
    command = [
        *(sys.executable, "-m", "calibration", "build", MODELS / "vww_96_fp32.tflite", "--manifest"),
        *(KNOWN / "vww-96.toml", "--clips", TRAIN, "--held-out", VAL, "--out", out),
    ]
    for end, sign in ((signal.SIGKILL, "set.json"), (signal.SIGINT, "*.histograms.npz")):
        with subprocess.Popen([*map(str, command)], cwd=ROOT, stderr=subprocess.PIPE) as running:
            deadline = time.monotonic() + 600
            while not list(work.rglob(sign)) and running.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            running.send_signal(end)
            _, errors = running.communicate(timeout=HANGS_S)
        assert running.returncode == (-signal.SIGKILL if end == signal.SIGKILL else 130)
        assert b"Traceback" not in errors
        assert (b"interrupted; run it again to go on" in errors) == (end == signal.SIGINT)
        assert not out.exists()
        assert not [file for file in work.rglob("*.part") if end == signal.SIGINT]
    statistics = {file: file.stat().st_mtime_ns for file in work.rglob("*.histograms.npz")}
    assert statistics
    done = edge_calibrate(*command[3:])
    assert done.returncode == 0, done.stderr
    assert {file: file.stat().st_mtime_ns for file in work.rglob("*.histograms.npz")} == statistics


class TestBadInput:
    def test_a_manifest_with_another_colour_order(self, tmp_path: Path) -> None:
        """YOLOX takes BGR."""
        text = (KNOWN / "yolox-nano.toml").read_text().replace('colour = "bgr"', 'colour = "rgb"')
        done = build(MODELS / "yolox_nano_416_fp32.onnx", manifest(tmp_path, text), tmp_path / "out")
        refused(done, tmp_path / "out", code=65, told="colour = bgr")

    def test_a_manifest_with_another_range(self, tmp_path: Path) -> None:
        """YOLOX takes 0..255."""
        text = (
            (KNOWN / "yolox-nano.toml").read_text().replace("pad = 114", "pad = 114\nstd = [255, 255, 255]")
        )
        done = build(MODELS / "yolox_nano_416_fp32.onnx", manifest(tmp_path, text), tmp_path / "out")
        refused(done, tmp_path / "out", code=65, told="std = [1.0, 1.0, 1.0]")

    def test_a_manifest_with_another_size(self, tmp_path: Path) -> None:
        """The network's own size is not the manifest's."""
        text = (KNOWN / "yolox-nano.toml").read_text().replace("416", "320")
        done = build(MODELS / "yolox_nano_416_fp32.onnx", manifest(tmp_path, text), tmp_path / "out")
        refused(done, tmp_path / "out", code=65, told="--size 320x320")

    def test_a_manifest_with_another_decoder(self, tmp_path: Path) -> None:
        """The outputs are not those of the family."""
        text = (KNOWN / "yolox-nano.toml").read_text().replace('family = "yolox"', 'family = "centernet"')
        done = build(MODELS / "yolox_nano_416_fp32.onnx", manifest(tmp_path, text), tmp_path / "out")
        refused(done, tmp_path / "out", code=65, told='do not fit decoder family "centernet"')

    def test_an_operator_that_tflite_lacks(self, tmp_path: Path) -> None:
        """It is named, with its layer."""
        done = build(unsupported(tmp_path), manifest(tmp_path, tiny(32)), tmp_path / "out")
        refused(done, tmp_path / "out", code=65, told="TFLite has no operator for Det (layer head/det)")

    def test_a_quantized_tflite(self, tmp_path: Path) -> None:
        """It is the float one that is wanted."""
        done = build(MODELS / "vww_96_int8.tflite", KNOWN / "vww-96.toml", tmp_path / "out")
        refused(done, tmp_path / "out", code=65, told="is quantized already: input int8")

    def test_a_python_that_is_too_old(self, tmp_path: Path) -> None:
        """The fix says what to install."""
        old = "/usr/bin/python3"
        version = subprocess.run([old, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
        if version.rpartition(".")[0] in ("3.12", "3.13"):
            pytest.skip("the system's Python is new enough")
        source = MODELS / "yolox_nano_416_fp32.onnx"
        done = build(source, KNOWN / "yolox-nano.toml", tmp_path / "out", "--python", old)
        refused(done, tmp_path / "out", code=66, told=f"Python {version}; install Python 3.12")

    def test_a_place_in_use(self, tmp_path: Path) -> None:
        """It is told at once, not after hours of work."""
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").write_text("")
        done = build(MODELS / "yolox_nano_416_fp32.onnx", KNOWN / "yolox-nano.toml", tmp_path / "out")
        assert done.returncode == 73
        assert "bundle directory is not empty" in done.stderr
        assert not (tmp_path / "out.work").exists()

    def test_a_disk_without_room(self, tmp_path: Path) -> None:
        """A limit on file size stands for it: one line, nothing half-written."""
        command = (
            f"ulimit -f 2000; exec {sys.executable} -m calibration build {MODELS}/yolox_nano_416_fp32.onnx "
            f"--manifest {KNOWN}/yolox-nano.toml --clips {TRAIN} --held-out {VAL} --out {tmp_path}/out"
        )
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            timeout=600,
            check=False,
        )
        refused(done, tmp_path / "out", code=73, told="File too large")
        assert not list((tmp_path / "out.work").rglob("*.part"))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_yolov8_shaped_network_with_an_open_size_is_built(tmp_path: Path) -> None:
    """A small synthetic network with YOLOv8's output, (1, 4 + classes, n), and a batch and size left open.

    It finds bright spots. No weights of YOLOv8 are here: this tries the way, not that network.
    """
    source = spots(tmp_path)
    done = build(source, manifest(tmp_path, tiny(64)), tmp_path / "out", "--clips", VAL, "--held-out", TRAIN)
    assert done.returncode == 0, done.stderr
    artifacts = load_bundle(tmp_path / "out").manifest.artifact
    assert {"int8.tflite", "fp32.onnx", "fp16.onnx"} <= {artifact.file for artifact in artifacts}


def manifest(folder: Path, text: str) -> Path:
    """Return a manifest of `text`, with the labels it may name beside it."""
    for name in ("coco80.txt", "vww.txt"):
        (folder / name).write_bytes((KNOWN / name).read_bytes())
    (folder / "spot.txt").write_text("spot\n")
    (folder / "manifest.toml").write_text(text)
    return folder / "manifest.toml"


def tiny(size: int) -> str:
    """Return the manifest of a synthetic network of YOLOv8's form."""
    return f"""
schema = 1
name = "spots"
version = 1
task = "detect"
licence = "MIT"
labels = "spot.txt"
[input]
width = {size}
height = {size}
std = [255.0, 255.0, 255.0]
[decoder]
family = "yolo"
box_units = "pixel"
score_threshold = 0.3
[[artifact]]
file = "spots.onnx"
format = "onnx"
precision = "fp32"
layout = "nchw"
"""


def unsupported(folder: Path) -> Path:
    """Return a network with an operator that TFLite does not have."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="act"),
        helper.make_node("Det", ["r"], ["y"], name="head/det"),
    ]
    return _saved(nodes, [], (1, 3, 32, 32), (1, 3), folder)


def spots(folder: Path) -> Path:
    """Return a network that scores how bright each 16 x 16 patch is, its boxes being the patches."""
    cells = 4
    centre = (np.indices((cells, cells)).reshape(2, -1)[::-1] * 16 + 8).astype(np.float32)
    boxes = np.concatenate([centre, np.full((2, cells * cells), 16, np.float32)])[None]
    weights = {
        "w": np.full((1, 3, 16, 16), 1 / (3 * 256), np.float32),
        "gain": np.array([12.0], np.float32),
        "shift": np.array([-7.0], np.float32),
        "boxes": boxes,
        "shape": np.array([1, 1, cells * cells], np.int64),
    }
    nodes = [
        helper.make_node(
            "Conv", ["x", "w"], ["light"], name="light", kernel_shape=[16, 16], strides=[16, 16]
        ),
        helper.make_node("Mul", ["light", "gain"], ["scaled"], name="scale"),
        helper.make_node("Add", ["scaled", "shift"], ["moved"], name="move"),
        helper.make_node("Sigmoid", ["moved"], ["score"], name="score"),
        helper.make_node("Reshape", ["score", "shape"], ["row"], name="row"),
        helper.make_node("Concat", ["boxes", "row"], ["y"], name="head", axis=1),
    ]
    arrays = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    return _saved(nodes, arrays, ("batch", 3, "height", "width"), (1, 5, cells * cells), folder)


def _saved(
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    taken: tuple[int | str, ...],
    given: tuple[int, ...],
    folder: Path,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, taken)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, given)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(folder / "tiny.onnx"))
    return folder / "tiny.onnx"
