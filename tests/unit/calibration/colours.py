"""A real bundle that takes milliseconds: a network that tells red, green and blue pictures apart."""

from __future__ import annotations

import hashlib
from pathlib import Path

import av
import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper

from agent.bundle import MANIFEST, Accuracy, Artifact, Bundle, load_bundle, parse_manifest
from agent.bundle.manifest import dump_manifest

NAMES = ("red", "green", "blue")
_SIDE_PX = 32
_MANIFEST = f"""
name = "colours"
version = 1
task = "classify"
licence = "none"
labels = "labels.txt"
input = {{ width = {_SIDE_PX}, height = {_SIDE_PX}, std = [255.0, 255.0, 255.0] }}
decoder = {{ family = "classification" }}
accuracy = {{ metric = "top1" }}
artifact = [{{ file = "fp32.onnx", format = "onnx", precision = "fp32", layout = "nchw" }}]
"""


def network(*order: int) -> bytes:
    """Return an ONNX network whose score of label i is the mean of channel `order[i]`."""
    shape = [1, 3, _SIDE_PX, _SIDE_PX]
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixels"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gather", ["flat", "order"], ["score"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor("order", TensorProto.INT64, [3], order)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def colours_bundle(folder: Path, *, floor: float = 0.0, **files: bytes) -> Bundle:
    """Make a bundle in `folder` of fp32=..., int8=... and so on, each an ONNX file."""
    folder.mkdir()
    artifacts = []
    for precision, content in files.items():
        (folder / f"{precision}.onnx").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        artifacts.append(
            Artifact(f"{precision}.onnx", "onnx", precision, "nchw", bytes=len(content), sha256=digest)
        )
    manifest = msgspec.structs.replace(
        parse_manifest(_MANIFEST.encode()),
        artifact=tuple(artifacts),
        accuracy=Accuracy("top1", floor),
    )
    (folder / "labels.txt").write_text("\n".join(NAMES))
    (folder / MANIFEST).write_bytes(dump_manifest(manifest))
    return load_bundle(folder)


def write_pictures(folder: Path, *, each: int = 4) -> Path:
    """Write `each` noisy pictures of every colour as folder/COLOUR/N.png."""
    numbers = np.random.default_rng(0)
    for channel, name in enumerate(NAMES):
        (folder / name).mkdir(parents=True)
        for n in range(each):
            pixels = numbers.integers(0, 120, (48, 64, 3), np.uint8)
            pixels[..., channel] += 100
            _write_png(folder / name / f"{n}.png", pixels)
    return folder


def _write_png(file: Path, pixels: np.ndarray) -> None:
    with av.open(str(file), "w", format="image2pipe") as container:
        stream = container.add_stream("png", rate=1)
        stream.height, stream.width = pixels.shape[:2]
        stream.pix_fmt = "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
