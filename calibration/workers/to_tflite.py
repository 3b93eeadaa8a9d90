"""ONNX to float .tflite by onnx2tf: `to_tflite.py MODEL.onnx FOLDER`. Writes FOLDER/<stem>_float32.tflite.

onnx2tf may write over MODEL.onnx: give it a copy.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnx2tf


def main() -> None:
    """Convert, and end with one line that names the layers that TFLite has no operators for."""
    model, folder = Path(sys.argv[1]), Path(sys.argv[2])
    onnx2tf.convert(
        input_onnx_file_path=str(model),
        output_folder_path=str(folder),
        report_op_coverage=True,
        verbosity="error",
    )
    coverage = json.loads((folder / f"{model.stem}_op_coverage_report.json").read_text())
    lost = coverage["unsupported_nodes"] + coverage["custom_lowered_nodes"]
    if lost:
        layers = ", ".join(sorted(f"{node['onnx_op']} (layer {node['node_name']})" for node in lost))
        sys.exit(f"TFLite has no operator for {layers}")


main()
