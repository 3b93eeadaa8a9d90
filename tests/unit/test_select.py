"""The plan: what is taken, what not and why."""

from __future__ import annotations

import msgspec
import pytest

from agent.backends.choice import BATCH, Choice
from agent.backends.usable import Backend
from agent.bundle.manifest import Artifact, preferred
from agent.hardware import Board
from agent.measured import Device, Measured, Tuning
from agent.select import plan

PI = Board(kind="raspberry-pi", name="Raspberry Pi 5", tier="supported", tier_reason="", usable_cpus=4)
INT8 = Artifact(file="int8.tflite", format="tflite", precision="int8")
FP32 = Artifact(file="fp32.tflite", format="tflite", precision="fp32")
ONNX = Artifact(file="fp16.onnx", format="onnx", precision="fp16")
QDQ = Artifact(file="int8-qdq.onnx", format="onnx", precision="int8")
WIDE = Artifact(file="fp32.onnx", format="onnx", precision="fp32")
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
            ("tensorrt", "fp16.onnx", "fp16"),
            ["litert: tensorrt comes first", "tflite-runtime: tensorrt comes first"],
        ),
        (
            (INT8, WIDE, ONNX, QDQ),
            (LITERT, NO_OLD, TENSORRT),
            ("tensorrt", "int8-qdq.onnx", "int8"),
            [
                "tensorrt fp16.onnx: int8 comes first",
                "litert: tensorrt comes first",
                "tflite-runtime: not installed",
            ],
        ),
        (
            (INT8, WIDE),
            (LITERT, NO_OLD, TENSORRT),
            ("litert", "int8.tflite", "int8"),
            ["tensorrt: the bundle has no int8 or fp16 onnx artifact", "tflite-runtime: not installed"],
        ),
        (
            (INT8,),
            (NO_LITERT, OLD, TENSORRT),
            ("tflite-runtime", "int8.tflite", "int8"),
            ["tensorrt: the bundle has no onnx artifact", "litert: not installed"],
        ),
        (
            (ONNX,),
            (LITERT, NO_OLD, NO_TENSORRT),
            (None, None, None),
            [
                "tensorrt: no Jetson",
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


def test_an_engine_is_for_several_pictures_where_the_file_is() -> None:
    """Who has not measured takes what several cameras can use; one has nothing to wait for."""
    wide = msgspec.structs.replace(ONNX, open_batch=True)
    for artifact, batch in ((ONNX, 1), (wide, BATCH)):
        choice = plan(PI, (artifact,), (TENSORRT,)).choice
        assert choice is not None
        assert choice.batch == batch


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


QUICK = Measured(Choice("litert", "fp32.tflite", "fp32", 2), p50_ms=5.0)
SLOW = Measured(Choice("litert", "int8.tflite", "int8", 3), p50_ms=9.0)
BARE = Measured(Choice("litert", "fp32.tflite", "fp32", 2, delegate=False), p50_ms=20.0)
GPU = Measured(Choice("tensorrt", "fp16.onnx", "fp16", 1), objection="it crashed (SIGSEGV)")
EVERYTHING = (INT8, FP32, ONNX)
ALL = (LITERT, NO_OLD, TENSORRT)


def tuned(*measured: Measured) -> Tuning:
    device = Device.of(PI, ALL)
    return Tuning("a model 1", {}, device, "2026-11-22T10:00:00+00:00", 3, measured, measured[0].choice)


def test_what_was_measured_best_is_taken_and_told() -> None:
    """Precision, threads and delegate are the measured ones; what lost has its figure or its fault as reason."""
    chosen = plan(PI, EVERYTHING, ALL, tuned(QUICK, SLOW, BARE, GPU))
    assert chosen.choice == QUICK.choice
    assert chosen.tuned == "tuned on 2026-11-22: litert fp32, 2 threads 5.0 ms; no delegate 4.0x slower"
    assert [(r.backend, r.artifact, r.reason) for r in chosen.rejected] == [
        ("tensorrt", None, "it crashed (SIGSEGV)"),
        ("litert", "int8.tflite", "measured 9.0 ms"),
        ("tflite-runtime", None, "not installed"),
    ]


def test_int8_slower_than_float_is_a_warning() -> None:
    """Nobody has to find out by himself."""
    chosen = plan(PI, EVERYTHING, ALL, tuned(QUICK, SLOW))
    assert chosen.warnings == ("INT8 is 1.8x slower than fp32 on this device (litert: 9.0 ms, 5.0 ms)",)


def test_of_the_artifacts_that_are_given_the_best_measured_is_taken() -> None:
    """Without the winner, such as an engine that is not built yet, it is the next."""
    winner = Measured(Choice("tensorrt", "fp16.onnx", "fp16", 1), p50_ms=1.0)
    tuning = tuned(winner, QUICK, SLOW)
    assert plan(PI, EVERYTHING, ALL, tuning).choice == winner.choice
    assert plan(PI, (INT8, FP32), ALL, tuning).choice == QUICK.choice
    assert plan(PI, (INT8,), ALL, tuning).choice == SLOW.choice
    assert plan(PI, EVERYTHING, (LITERT, NO_OLD, NO_TENSORRT), tuning).choice == QUICK.choice


def test_a_tuning_of_nothing_that_can_run_now_decides_nothing() -> None:
    """It is as if nothing had been measured."""
    chosen = plan(PI, (INT8,), ALL, tuned(QUICK))
    assert (chosen.choice, chosen.tuned) == (Choice("litert", "int8.tflite", "int8", 3), "")


def test_a_tuning_of_another_state_of_the_device_is_not_used() -> None:
    """What changed is told, with the remedy."""
    newer = Backend("litert", usable=True, version="2.4.0")
    chosen = plan(PI, EVERYTHING, (newer, NO_OLD, NO_TENSORRT), tuned(QUICK))
    assert (chosen.artifact, chosen.threads, chosen.tuned) == ("int8.tflite", 3, "")
    assert "litert: 2.3.0 then, 2.4.0 now; `edge-agent tune` measures anew" in chosen.warnings[0]


def test_tensorrt_has_no_threads() -> None:
    """One, whatever the device has."""
    assert plan(PI, (ONNX,), (TENSORRT,)).threads == 1
