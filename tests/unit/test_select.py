"""The plan: what is taken, what not and why."""

from __future__ import annotations

import pytest

from agent.backends.usable import Backend
from agent.bundle.manifest import Artifact, preferred
from agent.hardware import Board
from agent.select import plan

PI = Board(kind="raspberry-pi", name="Raspberry Pi 5", tier="supported", tier_reason="", usable_cpus=4)
INT8 = Artifact(file="int8.tflite", format="tflite", precision="int8")
FP32 = Artifact(file="fp32.tflite", format="tflite", precision="fp32")
ONNX = Artifact(file="fp16.onnx", format="onnx", precision="fp16")
LITERT = Backend("litert", usable=True, version="2.3.0")
NO_LITERT = Backend("litert", usable=False, reason="not installed", fix="pip install ai-edge-litert")
OLD = Backend("tflite-runtime", usable=True, version="2.14.0")
NO_OLD = Backend("tflite-runtime", usable=False, reason="not installed")
TENSORRT = Backend("tensorrt", usable=True, version="10.3.0")
NO_TENSORRT = Backend("tensorrt", usable=False, reason="no Jetson")


@pytest.mark.parametrize(
    ("artifacts", "backends", "taken", "rejected"),
    [
        (
            (FP32, INT8),
            (LITERT, NO_OLD, NO_TENSORRT),
            ("litert", "int8.tflite", "int8"),
            ["tensorrt: no Jetson", "litert fp32.tflite: int8 comes first", "tflite-runtime: not installed"],
        ),
        (
            (INT8, ONNX),
            (LITERT, OLD, TENSORRT),
            ("litert", "int8.tflite", "int8"),
            ["tensorrt fp16.onnx: not built in this version yet", "tflite-runtime: litert comes first"],
        ),
        (
            (INT8,),
            (NO_LITERT, OLD, TENSORRT),
            ("tflite-runtime", "int8.tflite", "int8"),
            ["tensorrt: the bundle has no onnx artifact", "litert: not installed"],
        ),
        (
            (ONNX,),
            (LITERT, NO_OLD, TENSORRT),
            (None, None, None),
            [
                "tensorrt fp16.onnx: not built in this version yet",
                "litert: the bundle has no tflite artifact",
                "tflite-runtime: not installed",
            ],
        ),
        (
            (FP32,),
            (LITERT,),
            ("litert", "fp32.tflite", "fp32"),
            ["tensorrt: not looked for", "tflite-runtime: not looked for"],
        ),
    ],
)
def test_the_best_backend_that_can_is_taken_and_every_other_is_accounted_for(
    artifacts: tuple[Artifact, ...],
    backends: tuple[Backend, ...],
    taken: tuple[str | None, ...],
    rejected: list[str],
) -> None:
    """Each backend and each artifact of the one that is taken is either taken or rejected with a reason."""
    chosen = plan(PI, artifacts, backends)
    told = [f"{r.backend}{' ' + r.artifact if r.artifact else ''}: {r.reason}" for r in chosen.rejected]
    assert (chosen.backend, chosen.artifact, chosen.precision) == taken
    assert told == rejected


def test_int8_on_tflite_runtime_is_taken_with_a_warning() -> None:
    """It works, many times slower: tflite-runtime never gives INT8 to XNNPACK. FP32 it does give."""
    backends = (NO_LITERT, OLD, NO_TENSORRT)
    assert "never gives INT8 to XNNPACK" in plan(PI, (INT8,), backends).warnings[0]
    assert plan(PI, (FP32,), backends).warnings == ()
    assert plan(PI, (INT8,), (LITERT, OLD, NO_TENSORRT)).warnings == ()


def test_threads_are_the_usable_cpus_but_one() -> None:
    """Three on a Pi."""
    assert plan(PI, (INT8,), (LITERT,)).threads == 3


def test_what_could_not_be_tried_is_taken_with_a_warning() -> None:
    """A busy device is no reason to say that nothing can run."""
    untried = Backend("litert", usable=None, reason="could not be tried: no answer within 60 s", fix="later")
    chosen = plan(PI, (INT8,), (untried, NO_OLD, NO_TENSORRT))
    assert (chosen.backend, chosen.artifact) == ("litert", "int8.tflite")
    assert "could not be tried: no answer within 60 s; later" in chosen.warnings[0]


def test_the_plan_and_the_bundle_prefer_the_same() -> None:
    """INT8, FP16, FP32 of the format that is asked for."""
    half = Artifact(file="fp16.tflite", format="tflite", precision="fp16")
    assert preferred((FP32, ONNX, half, INT8), "tflite") == [INT8, half, FP32]
