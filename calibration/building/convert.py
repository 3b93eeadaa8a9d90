"""ONNX to float .tflite, and the proof on real pictures that two networks are equal."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from agent.errors import BadData
from calibration.environments import WORKERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from agent.backends import Engine
    from agent.messages import TensorSpec
    from calibration.environments import Environment

_TOLERANCE = 1e-3
"""Largest difference, as a fraction of the output's largest value: float32 in another order makes 1e-5 of it."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step that must not change what the network computes: from what to what, and what to do if it did."""

    reference: str
    made: str
    if_shapes_differ: str
    if_values_differ: str


_REPORT = "edge-calibrate mistook the graph, report it to its makers"
PREPARED = Step("the ONNX as given", "the rewritten one", _REPORT, _REPORT)
CONVERTED = Step(
    "the ONNX",
    "the .tflite",
    "the conversion changed the layout of an output: export the network without its last transposition",
    "onnx2tf mistook the graph, report it to its makers",
)


def float_tflite(model: onnx.ModelProto, environment: Environment) -> bytes:
    """Return `model`, of fixed shapes, as a float .tflite whose input is NHWC.

    Raises BadData that names the operators, with their layers, for which TFLite has none.
    """
    with tempfile.TemporaryDirectory() as scratch:
        copy, folder = Path(scratch) / "model.onnx", Path(scratch) / "out"
        onnx.save(model, str(copy))
        environment.run(WORKERS / "to_tflite.py", copy, folder)
        return (folder / "model_float32.tflite").read_bytes()


def check_same_network(
    reference: Engine, made: Engine, inputs: Iterable[NDArray[np.float32]], step: Step
) -> float:
    """Return the largest difference between the outputs of two engines for `inputs` (1, H, W, 3).

    It is relative to the largest value of the reference's output. Raises BadData, in the words of `step`, when
    the outputs are not of one number and shape, or differ by more than rounding does.
    """
    _check_shapes(reference.outputs, made.outputs, step)
    worst = 0.0
    for picture in inputs:
        pairs = zip(_run(reference, picture), _run(made, picture), strict=True)
        for spec, (expected, seen) in zip(reference.outputs, pairs, strict=True):
            largest = float(np.abs(expected).max(initial=0)) or 1.0
            difference = float(np.abs(expected - seen).max(initial=0)) / largest
            if not difference <= _TOLERANCE:
                what = f"{step.made} and {step.reference} differ in output {spec.name}"
                fix = f"rounding makes {_TOLERANCE:g} at most: {step.if_values_differ}"
                raise BadData(what, seen=f"{difference:.2g}", fix=fix)
            worst = max(worst, difference)
    return worst


def _check_shapes(expected: Sequence[TensorSpec], seen: Sequence[TensorSpec], step: Step) -> None:
    if [spec.shape for spec in expected] != [spec.shape for spec in seen]:
        shapes = " and ".join(
            ", ".join(str(list(spec.shape)) for spec in specs) for specs in (expected, seen)
        )
        raise BadData(f"outputs of {step.reference} and {step.made}", seen=shapes, fix=step.if_shapes_differ)


def _run(engine: Engine, picture: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    fits = engine.input.shape == picture.shape
    return engine.infer(picture if fits else np.ascontiguousarray(picture.transpose(0, 3, 1, 2)))
