"""The manifest of a tiny detector of YOLOv8's form."""

from __future__ import annotations


def manifest_text(side_px: int) -> bytes:
    """Return the manifest of one that takes `side_px` x `side_px` pixels, 0..1."""
    return f"""
schema = 1
name = "tiny"
version = 1
task = "detect"
licence = "Apache-2.0"
labels = "labels.txt"
[input]
width = {side_px}
height = {side_px}
std = [255.0, 255.0, 255.0]
[decoder]
family = "yolo"
score_threshold = 0.3
[[artifact]]
file = "tiny.onnx"
format = "onnx"
precision = "fp32"
layout = "nchw"
""".encode()
