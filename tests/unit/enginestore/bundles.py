"""A bundle of tiny classifiers for engines: three labels, the mean of each colour is its score."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from onnx import TensorProto, helper

from agent.bundle import Bundle, load_bundle

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 32
REFUSABLE = {"int8": "Abs", "fp16": "Relu"}
"""An operator that the network of each precision has alone: the double of TensorRT can be told to refuse it."""


def network(operator: str, inputs: int = 1) -> bytes:
    """Return an ONNX file of input (1, 3, 32, 32) and output (1, 3), through `operator`, the node "odd"."""
    kind = TensorProto.FLOAT
    nodes = [
        helper.make_node(operator, ["x"] * inputs, ["odd"], name="odd"),
        helper.make_node("GlobalAveragePool", ["odd"], ["mean"], name="mean"),
        helper.make_node("Flatten", ["mean"], ["scores"], name="flat"),
    ]
    ends = [helper.make_tensor_value_info("x", kind, [1, 3, SIZE, SIZE])]
    graph = helper.make_graph(nodes, "tiny", ends, [helper.make_tensor_value_info("scores", kind, [1, 3])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    return bytes(model.SerializeToString())


def make_bundle(path: Path, *precisions: str, networks: dict[str, bytes] | None = None) -> Bundle:
    """Write the bundle `path` with an ONNX artifact of each of `precisions`, of `networks` where one is there."""
    path.mkdir(parents=True)
    (path / "labels.txt").write_text("red\ngreen\nblue\n")
    text = f"""
        name = "tiny"
        version = 1
        task = "classify"
        licence = "none"
        labels = "labels.txt"
        input = {{ width = {SIZE}, height = {SIZE}, std = [255.0, 255.0, 255.0] }}
        decoder = {{ family = "classification" }}
        """
    for precision in precisions:
        content = (networks or {}).get(precision, network(REFUSABLE[precision]))
        (path / f"{precision}.onnx").write_bytes(content)
        text += f"""
        [[artifact]]
        file = "{precision}.onnx"
        format = "onnx"
        precision = "{precision}"
        layout = "nchw"
        sha256 = "{hashlib.sha256(content).hexdigest()}"
        """
    (path / "model.toml").write_text(text)
    return load_bundle(path)
