"""Run litert-quantizer, in its own environment: `quantize.py JOB.json` writes the .tflite files the job lists.

The job: {"model": float .tflite, "ranges": {tensor name: [lowest, highest]},
"variants": [{"out": file, "float_ops": [operator's outputs, joined by ";"]}]}. Weights become INT8 per channel,
activations INT8 per tensor; the input becomes INT8, outputs stay float. Each file appears whole or not at all.
"""

import json
import logging
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from litert_quantizer import quantizer, recipe


def main(job_file: str) -> None:
    """Do the job in `job_file`."""
    job = json.loads(Path(job_file).read_bytes())
    statistics = {name: _extent(*bounds) for name, bounds in job["ranges"].items()}
    for variant in job["variants"]:
        _write(Path(variant["out"]), quantized(job["model"], statistics, variant["float_ops"]))


def quantized(model: str, statistics: dict[str, Any], float_ops: list[str]) -> bytes:
    """Return the .tflite `model` in INT8, but for `float_ops`."""
    worker = quantizer.Quantizer(model)
    worker.load_quantization_recipe(_recipe(float_ops))
    result = worker.quantize(statistics, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def _recipe(float_ops: list[str]) -> list[dict[str, Any]]:
    everything = recipe.static_wi8_ai8()
    kept = [{"regex": ".*", "operation": "OUTPUT", "algorithm_key": "no_quantize"}]
    if float_ops:
        # The quantizer's name of an operator is the names of its outputs, each with a ";" behind it.
        names = "|".join(re.escape(name) for name in float_ops)
        kept.append({"regex": f"^(?:{names});?$", "operation": "*", "algorithm_key": "no_quantize"})
    return [*everything, *kept]


def _extent(low: float, high: float) -> dict[str, Any]:
    return {"min": np.array(low, np.float32), "max": np.array(high, np.float32)}


def _write(out: Path, model: bytes) -> None:
    beside = out.with_name(f"{out.name}.part")
    with beside.open("wb") as file:
        file.write(model)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(out)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    main(sys.argv[1])
